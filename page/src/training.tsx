// The second view: how the training went, with the chosen step marked in every curve.

import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Histogram } from "./document";
import { num } from "./document";
import { Curves } from "./curves";
import { css, grey } from "./colours";
import { useWidth } from "./hooks";
import { Num, count, format } from "./numbers";
import { useStore } from "./state";
import { WithTable } from "./table";

export function Training() {
  const { source, set, frame } = useStore();
  const { frames, curves, parameters } = source.document;
  const steps = useMemo(() => frames.map((f) => f.step), [frames]);
  const norms = useMemo(() => parameters.map((p, i) => ({ name: p.name, values: frames.map((f) => num(f.params[i]?.grad_norm)) })), [frames, parameters]);
  const ratios = useMemo(() => parameters.map((p, i) => ({ name: p.name, values: frames.map((f) => num(f.params[i]?.ratio)) })), [frames, parameters]);
  const lines = useMemo(() => curves.map((c) => c.series.map((s) => ({ name: s.name, values: s.values.map((v) => (v === null ? null : num(v))) }))), [curves]);
  const toFrame = (place: number) => set({ frame: place });
  const nearest = (x: "step" | "epoch", value: number) => {
    let best = 0;
    frames.forEach((f, i) => { if (Math.abs(f[x] - value) < Math.abs(frames[best]![x] - value)) best = i; });
    set({ frame: best });
  };
  return (
    <div class="training">
      <div class="cards">
        {curves.map((curve, i) => (
          <Curves key={curve.name} title={curve.name} unit={curve.unit} xName={curve.x} at={curve.at} lines={lines[i]!} mark={frame[curve.x]} pick={(place) => nearest(curve.x, curve.at[place]!)} />
        ))}
        <Curves title="gradient norm" unit="L2, log scale" xName="step" at={steps} lines={norms} mark={frame.step} logarithmic pick={toFrame} />
        <Curves title="update to weight" unit="ratio of the norms, log scale" xName="step" at={steps} lines={ratios} mark={frame.step} logarithmic pick={toFrame} />
      </div>
      <Histograms />
    </div>
  );
}

type What = "value" | "gradient" | "update";

function Histograms() {
  const { source, frame } = useStore();
  const [p, setP] = useState(0);
  const [what, setWhat] = useState<What>("value");
  const { parameters } = source.document;
  if (!parameters.length) return null;
  return (
    <section aria-labelledby="histograms-title">
      <h2 id="histograms-title">Distributions over time</h2>
      <div class="toolbar">
        <label class="field">Parameter{" "}
          <select value={p} onChange={(event) => setP(Number(event.currentTarget.value))}>{parameters.map((q, i) => <option key={q.name} value={i}>{q.name}</option>)}</select>
        </label>
        <div class="switch" role="group" aria-label="Distribution of">
          {(["value", "gradient", "update"] as const).map((name) => <button type="button" key={name} aria-pressed={what === name} onClick={() => setWhat(name)}>{name}s</button>)}
        </div>
      </div>
      <div class="cards wide">
        <Density p={p} what={what} />
        <Bars histogram={frame.params[p]!.histograms[what]} title={`${what}s of ${parameters[p]!.name} at step ${count(frame.step)}`} />
      </div>
    </section>
  );
}

const BANDS = 72;

/** Time runs right, the numbers run up, the darker the more of them. */
function Density({ p, what }: { p: number; what: What }) {
  const { source, state, scheme, set } = useStore();
  const { frames, parameters } = source.document;
  const [box, width] = useWidth<HTMLDivElement>();
  const canvas = useRef<HTMLCanvasElement>(null);
  const all = useMemo(() => frames.map((f) => f.params[p]!.histograms[what]), [frames, p, what]);
  const [lo, hi] = [Math.min(...all.map((h) => num(h.lo))), Math.max(...all.map((h) => num(h.hi)))];
  const shares = useMemo(() => all.map((h) => spread(h, lo, hi)), [all, lo, hi]);
  const height = 190;
  useLayoutEffect(() => {
    const target = canvas.current;
    if (!target || !width) return;
    const scale = devicePixelRatio || 1;
    target.width = width * scale;
    target.height = height * scale;
    const context = target.getContext("2d")!;
    context.scale(scale, scale);
    const step = width / frames.length;
    shares.forEach((share, i) => {
      const most = Math.max(...share);
      share.forEach((value, band) => {
        context.fillStyle = css(grey(Math.sqrt(value / (most || 1)), 0, 1.25, scheme));
        context.fillRect(i * step, height - ((band + 1) * height) / BANDS, Math.ceil(step), Math.ceil(height / BANDS));
      });
    });
    context.strokeStyle = getComputedStyle(target).getPropertyValue("--accent").trim();
    context.lineWidth = 2;
    context.strokeRect(state.frame * step + 1, 1, Math.max(3, step - 2), height - 2);
  }, [shares, width, scheme, state.frame, frames.length]);
  const title = `${what}s of ${parameters[p]!.name} over training`;
  const picked = (event: MouseEvent) => set({ frame: Math.min(frames.length - 1, Math.floor((event.offsetX / width) * frames.length)) });
  return (
    <WithTable table={() => ({ caption: title, head: ["step", "smallest", "largest", "not finite"], rows: frames.length, row: (i) => [String(frames[i]!.step), num(all[i]!.lo), num(all[i]!.hi), all[i]!.not_finite] })}>
      <figure class="chart">
        <figcaption>{title}</figcaption>
        <div class="density">
          <div class="scale"><Num value={hi} digits={2} /><Num value={lo} digits={2} /></div>
          <div ref={box} class="picture"><canvas ref={canvas} role="img" class="pickable" onClick={picked} aria-label={`${title}: between ${format(lo)} and ${format(hi)}`} style={{ width: `${width}px`, height: `${height}px` }} /></div>
        </div>
        <p class="ends"><span>step {count(frames[0]!.step)}</span><span>step {count(frames[frames.length - 1]!.step)}</span></p>
      </figure>
    </WithTable>
  );
}

/** A histogram's counts shared out over the bands of the common scale. */
function spread(histogram: Histogram, lo: number, hi: number): number[] {
  const bands = new Array<number>(BANDS).fill(0);
  const bins = histogram.counts.length;
  const [from, width] = [num(histogram.lo), (num(histogram.hi) - num(histogram.lo)) / (bins || 1)];
  const span = hi - lo || 1;
  histogram.counts.forEach((value, bin) => {
    const [a, b] = [((from + bin * width - lo) / span) * BANDS, ((from + (bin + 1) * width - lo) / span) * BANDS];
    const [first, last] = [Math.max(0, Math.floor(a)), Math.min(BANDS - 1, Math.max(Math.floor(a), Math.ceil(b) - 1))];
    for (let band = first; band <= last; band++) {
      const share = b > a ? Math.max(0, Math.min(b, band + 1) - Math.max(a, band)) / (b - a) : 1;
      bands[band]! += value * share;
    }
  });
  return bands;
}

function Bars({ histogram, title }: { histogram: Histogram; title: string }) {
  const { counts } = histogram;
  const most = Math.max(1, ...counts);
  const [lo, hi] = [num(histogram.lo), num(histogram.hi)];
  const bin = (i: number) => lo + ((hi - lo) * i) / (counts.length || 1);
  return (
    <WithTable table={() => ({ caption: title, head: ["from", "to", "how many"], rows: counts.length, row: (i) => [format(bin(i)), format(bin(i + 1)), count(counts[i]!)] })}>
      <figure class="chart">
        <figcaption>{title}</figcaption>
        <svg class="bars" viewBox={`0 0 ${Math.max(1, counts.length)} 100`} preserveAspectRatio="none" role="img" aria-label={`${title}: between ${format(lo)} and ${format(hi)}`}>
          {counts.map((value, i) => <rect key={i} class={bin(i + 0.5) < 0 ? "negative" : "positive"} x={i + 0.06} width="0.88" y={100 - (98 * value) / most} height={(98 * value) / most} />)}
        </svg>
        <p class="ends"><Num value={lo} digits={3} /><Num value={hi} digits={3} /></p>
      </figure>
    </WithTable>
  );
}
