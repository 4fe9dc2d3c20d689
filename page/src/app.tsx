// The page: title, views, and the bar that moves through training time.

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { VIEWS, read, written } from "./address";
import type { Source } from "./document";
import { num } from "./document";
import { first, kinds } from "./changes";
import { DataView } from "./data";
import { DiagnosisView } from "./diagnosis";
import { useMedia } from "./hooks";
import { Network, useStep } from "./network";
import { count, format } from "./numbers";
import { useLive } from "./remote";
import { pass } from "./scene";
import { StoreContext, useStore, type Selection, type State, type Store, type View } from "./state";
import { strongest } from "./terms";
import { WhatIf } from "./whatif";
import { Training } from "./training";

export function App({ source: given }: { source: Source }) {
  const [source, setSource] = useState(given);
  const dark = useMedia("(prefers-color-scheme: dark)");
  const [said, say] = useState("");
  const [state, setState] = useState<State>(() => {
    // A training that goes on is followed; any other is opened where weights still move.
    const frame = source.document.live?.running ? source.document.frames.length - 1 : 0;
    return {
      view: "network", frame, selection: beginning(source), change: first(source, source.document.frames[frame]!, kinds(source)[0]!), cursor: null, open: new Set(), theme: "auto",
      ...read(source, location.hash),
    };
  });
  useLive(source, (next) => {
    // Whoever looks at the latest step goes on looking at the latest.
    setState((before) => ({ ...before, frame: before.frame >= source.document.frames.length - 1 ? next.document.frames.length - 1 : before.frame }));
    setSource(next);
  });
  useAddress(source, state, (place) => setState((before) => ({ ...before, ...place })));
  const set = (patch: Partial<State>) => setState((before) => ({ ...before, ...patch }));
  const frameNumber = Math.min(state.frame, source.document.frames.length - 1);
  const frame = source.document.frames[frameNumber]!;
  const scheme = state.theme === "auto" ? (dark ? "dark" : "light") : state.theme;
  useEffect(() => {
    document.documentElement.dataset["theme"] = scheme;
  }, [scheme]);
  useEffect(() => say(`Step ${frame.step}, epoch ${frame.epoch}, loss ${format(num(frame.loss))}`), [frame]);
  const store: Store = { source, state: { ...state, frame: frameNumber }, frame, scheme, set, say };
  return (
    <StoreContext.Provider value={store}>
      <Header />
      <main id="main">
        {VIEWS.map(([view]) => (
          <section key={view} id={`view-${view}`} role="tabpanel" aria-labelledby={`tab-${view}`} hidden={state.view !== view} tabIndex={-1}>
            {state.view === view && <ViewOf view={view} />}
          </section>
        ))}
      </main>
      <TimeBar />
      <div class="hidden" role="status" aria-live="polite">{said}</div>
      <Keys />
    </StoreContext.Provider>
  );
}

/** The weight of the first layer that is pulled most. */
function beginning(source: Source): Selection | null {
  const frame = source.document.frames[0]!;
  return source.document.parameters.length ? { kind: "weight", parameter: 0, index: strongest(source, frame, 0) } : null;
}

/** Keeps the address and what is shown alike; another view is a step that the browser's way back undoes. */
function useAddress(source: Source, state: State, follow: (place: Partial<State>) => void): void {
  const view = useRef(state.view);
  const hash = written(source, { ...state, frame: Math.min(state.frame, source.document.frames.length - 1) });
  useEffect(() => {
    if (hash === location.hash) return;
    try {
      history[view.current === state.view ? "replaceState" : "pushState"](null, "", hash);
    } catch {
      // A page inside another one (a notebook) has no address of its own.
    }
    view.current = state.view;
  }, [hash]);
  useEffect(() => {
    const listen = () => {
      const place = read(source, location.hash);
      view.current = place.view ?? view.current;
      follow(place);
    };
    addEventListener("popstate", listen);
    return () => removeEventListener("popstate", listen);
  }, [source]);
}

function ViewOf({ view }: { view: View }): ComponentChildren {
  if (view === "network") return <Network />;
  if (view === "training") return <Training />;
  if (view === "data") return <DataView />;
  if (view === "whatif") return <WhatIf />;
  return <DiagnosisView />;
}

function Header() {
  const { source, state, set, scheme } = useStore();
  const { document } = source;
  const tabs = useRef<HTMLDivElement>(null);
  const move = (event: KeyboardEvent) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const at = VIEWS.findIndex(([view]) => view === state.view);
    const next = VIEWS[(at + step + VIEWS.length) % VIEWS.length]![0];
    set({ view: next });
    tabs.current?.querySelector<HTMLElement>(`#tab-${next}`)?.focus();
  };
  return (
    <header class="top">
      <div class="title">
        <h1>{document.title}{document.live?.running && <small class="live"> · training now</small>}</h1>
        <button type="button" class="theme" onClick={() => set({ theme: scheme === "dark" ? "light" : "dark" })}>
          {scheme === "dark" ? "Light" : "Dark"}<span class="hidden"> colours</span>
        </button>
      </div>
      <dl class="about">{document.about.map(([name, text]) => <div key={name}><dt>{name}</dt><dd>{text}</dd></div>)}</dl>
      <div class="tabs" role="tablist" aria-label="Views" ref={tabs} onKeyDown={move}>
        {VIEWS.map(([view, name]) => (
          <button type="button" role="tab" key={view} id={`tab-${view}`} aria-selected={state.view === view} aria-controls={`view-${view}`} tabIndex={state.view === view ? 0 : -1} onClick={() => set({ view })}>{name}</button>
        ))}
      </div>
    </header>
  );
}

/** The slider through the recorded steps: arrow keys, Home and End move it. */
function TimeBar() {
  const { source, state, set, frame } = useStore();
  const { frames } = source.document;
  const still = useMedia("(prefers-reduced-motion: reduce)");
  const [playing, play] = useState(false);
  const last = frames.length - 1;
  useEffect(() => {
    if (!playing) return;
    const timer = setInterval(() => (state.frame < last ? set({ frame: state.frame + 1 }) : play(false)), still ? 1500 : 350);
    return () => clearInterval(timer);
  }, [playing, state.frame, last, still]);
  return (
    <section class="time" aria-label="Training time">
      <div class="group">
        <button type="button" aria-label="Previous recorded step" disabled={state.frame === 0} onClick={() => set({ frame: state.frame - 1 })}>◂</button>
        <button type="button" aria-pressed={playing} disabled={last === 0} onClick={() => { if (!playing && state.frame === last) set({ frame: 0 }); play(!playing); }}>{playing ? "Pause" : "Play"}</button>
        <button type="button" aria-label="Next recorded step" disabled={state.frame === last} onClick={() => set({ frame: state.frame + 1 })}>▸</button>
      </div>
      <input type="range" min="0" max={Math.max(last, 1)} value={state.frame} disabled={last === 0} aria-label="Recorded step" aria-valuetext={`step ${frame.step}, epoch ${frame.epoch}`} onInput={(event) => set({ frame: Number(event.currentTarget.value) })} />
      <output class="now">
        <span>step <b>{count(frame.step)}</b></span> <span>epoch <b>{count(frame.epoch)}</b></span> <span>loss <b data-name="loss" data-value={String(frame.loss)}>{format(num(frame.loss))}</b></span> <span class="wide-only">lr <b>{format(num(frame.lr))}</b></span>
      </output>
    </section>
  );
}

/** n and p step through the pass while the focus is in the network view (not in a field). */
function Keys() {
  const { source, state } = useStore();
  const beats = useMemo(() => pass(source.document), [source]);
  const go = useStep(beats);
  useEffect(() => {
    const listen = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      if (state.view !== "network" || event.ctrlKey || event.metaKey || event.altKey || !target.closest("#view-network") || target.matches("input, select")) return;
      const step = { n: 1, p: -1 }[event.key];
      if (step) go(state.cursor === null ? 0 : state.cursor + step);
    };
    addEventListener("keydown", listen);
    return () => removeEventListener("keydown", listen);
  });
  return null;
}
