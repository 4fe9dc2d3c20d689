// The view that asks: what if one number of this step were another?

import { useEffect, useMemo } from "preact/hooks";
import { ChangePanel } from "./change";
import { type Change, type Consequence, num } from "./document";
import { Curves } from "./curves";
import { recomputed, type Recomputed } from "./evaluate";
import { Num, count, format } from "./numbers";
import { useConsequence } from "./remote";
import { useStore } from "./state";
import { Predictions } from "./predictions";
import { firstOrder, target, words } from "./changes";

export function WhatIf() {
  const { source, frame, state, set } = useStore();
  const step = useMemo(() => recomputed(source, frame), [source, frame]);
  const change = state.change!;
  const here = useMemo(() => source.document.what_if.filter((c) => c.step === frame.step), [source, frame]);
  const kept = here.find((c) => same(c.change, change));
  const asked = useConsequence(source.document.live !== null && !kept, frame.step, change);
  const replayed = useMemo(() => kept ?? (asked === null || typeof asked === "string" ? asked : { ...asked, change }), [kept, asked]);
  return (
    <div class="what-if">
      <p class="lead">Change one number of step {count(frame.step)} and see what follows, beside what was.</p>
      <div class="columns even">
        <ChangePanel change={change} choose={(next) => set({ change: next })} />
        <section class="panel" aria-labelledby="at-once-title">
          <h2 id="at-once-title">At once</h2>
          {change.kind === "rate" ? (
            <p class="hint">Nothing: the learning rate only says how far this step moves the weights. The steps that follow, below, begin elsewhere.</p>
          ) : typeof step === "string" ? (
            <Unknown why={step} replayed={replayed} change={change} />
          ) : (
            <AtOnce step={step} change={change} />
          )}
        </section>
      </div>
      {change.kind !== "rate" && typeof step !== "string" && <Predictions step={step} change={change} />}
      <Course here={here} replayed={replayed} change={change} />
    </div>
  );
}

/** What the change does to the step itself: computed here, in float64, from what the file keeps of it. */
function AtOnce({ step, change }: { step: Recomputed; change: Exclude<Change, { kind: "rate" }> }) {
  const { source, frame, say } = useStore();
  const place = useMemo(() => target(source, frame, change), [source, frame, change]);
  const found = useMemo(() => {
    if (!place) return null;
    const changed = step.loss(step.with(place.values(step)));
    const slopes = place.slope && [place.engine ?? step.slope(...place.slope, place.before), step.slope(...place.slope, place.after)];
    return { original: step.loss(), changed, slopes };
  }, [step, place]);
  useEffect(() => { if (found) say(`${words(source, frame, change)}: the loss of the batch ${format(found.original, 6)} becomes ${format(found.changed, 6)}`); }, [found]);
  if (!place || !found) return <p class="hint">This step does not read it.</p>;
  const [before, after] = found.slopes ?? [];
  return (
    <>
      <div class="scroll" tabIndex={0} role="group" aria-label="What follows at once">
        <table class="beside">
          <caption>{words(source, frame, change)}</caption>
          <thead><tr><th scope="col"><span class="hidden">what</span></th><th scope="col" class="number">as it was</th><th scope="col" class="number">if</th><th scope="col" class="number">difference</th></tr></thead>
          <tbody>
            <Beside name="loss of this batch" id="loss" before={found.original} after={found.changed} plain />
            {before !== undefined && after !== undefined && <Beside name={`gradient of the ${change.kind}`} id="gradient" before={before} after={after} />}
          </tbody>
        </table>
      </div>
      {before !== undefined && <FirstOrder slope={before} before={place.before} after={place.after} change={found.changed - found.original} />}
      <p class="facts">Computed in this page in float64; the engine's own float32 loss of this step is {format(num(frame.loss), 7)}, {format(Math.abs(found.original - num(frame.loss)), 2)} away.</p>
    </>
  );
}

function Beside({ name, id, before, after, plain = false }: { name: string; id: string; before: number; after: number; plain?: boolean }) {
  return (
    <tr>
      <th scope="row">{name}</th>
      <td class="number" data-name={`${id}-before`}><Num value={before} digits={6} plain={plain} /></td>
      <td class="number" data-name={`${id}-after`}><Num value={after} digits={6} plain={plain} /></td>
      <td class="number" data-name={`${id}-gap`}><Num value={after - before} digits={3} /></td>
    </tr>
  );
}

/** What the gradient alone foretells, and how far that holds. */
function FirstOrder({ slope, before, after, change }: { slope: number; before: number; after: number; change: number }) {
  const told = firstOrder(slope, before, after);
  if (told === 0) return null;
  return (
    <p class="facts">
      To first order, gradient times move, the loss would change by <Num value={told} digits={3} />; it changes by <Num value={change} digits={3} />. The rest is curvature: the gradient is exact only for a move that is small enough.
    </p>
  );
}

/** What the engine replayed; null while it does, or where nobody can ask it; a text where it could not. */
type Replayed = Consequence | string | null;

/** The step cannot be computed here: what the engine found, where it was asked. */
function Unknown({ why, replayed, change }: { why: string; replayed: Replayed; change: Change }) {
  const { source, frame, state, set } = useStore();
  const found = typeof replayed === "string" ? null : replayed;
  const whole = source.document.frames.findLastIndex((f) => f.whole);
  return (
    <>
      {found ? (
        <div class="scroll" tabIndex={0} role="group" aria-label="What follows at once">
          <table class="beside">
            <caption>{words(source, frame, change)}, as the engine computed it</caption>
            <thead><tr><th scope="col"><span class="hidden">what</span></th><th scope="col" class="number">as it was</th><th scope="col" class="number">if</th><th scope="col" class="number">difference</th></tr></thead>
            <tbody>
              <Beside name="loss of this batch" id="loss" before={num(found.original.losses[0])} after={num(found.changed.losses[0])} plain />
              {found.original.gradient !== null && <Beside name={`gradient of the ${change.kind}`} id="gradient" before={num(found.original.gradient)} after={num(found.changed.gradient)} />}
            </tbody>
          </table>
        </div>
      ) : (
        <>
          <p class="hint">{why}</p>
          {whole >= 0 && whole !== state.frame && !source.document.live && <p class="hint">Every number is there at <button type="button" onClick={() => set({ frame: whole })}>step {count(source.document.frames[whole]!.step)}</button>.</p>}
        </>
      )}
    </>
  );
}

// -- the steps that follow ---------------------------------------------------------------------------------

function Course({ here, replayed, change }: { here: Consequence[]; replayed: Replayed; change: Change }) {
  const { live } = useStore().source.document;
  const found = typeof replayed === "string" ? null : replayed;
  return (
    <section class="panel" aria-labelledby="course-title">
      <h2 id="course-title">The steps that follow</h2>
      {found ? <Both found={found} all={change.kind === "rate" ? here.filter((c) => c.change.kind === "rate") : [found]} /> : live !== null && <p class={replayed ? "bad" : "hint"}>{replayed ?? "The engine replays them…"}</p>}
      {live === null && <Kept here={here} change={change} found={found !== null} />}
    </section>
  );
}

function Both({ found, all }: { found: Consequence; all: Consequence[] }) {
  const { source, frame } = useStore();
  const shown = all.includes(found) ? all : [found];
  const lines = useMemo(
    () => [{ name: "as it was", values: found.original.losses.map(num) }, ...shown.map((c) => ({ name: words(source, frame, c.change), values: c.changed.losses.map(num) }))],
    [found, shown.length],
  );
  const gaps = useMemo(() => lines.slice(1).map((line) => ({ name: line.name, values: line.values.map((v, i) => v - lines[0]!.values[i]!) })), [lines]);
  const at = useMemo(() => found.original.losses.map((_, i) => found.step + i), [found]);
  const last = lines[0]!.values.length - 1;
  const [was, is] = [num(found.original.losses[last]), num(found.changed.losses[last])];
  return (
    <>
      <p>{words(source, frame, found.change)}: at step {count(found.step + last)} the loss of the batch is <span data-name="course-after"><Num value={is} digits={6} plain /></span> rather than <Num value={was} digits={6} plain />, <Num value={is - was} digits={3} />. Same batches, same random numbers.</p>
      <div class="cards wide bare">
        <Curves title="loss of each batch" unit="" xName="step" at={at} lines={lines} />
        <Curves title="how much larger it is than it was" unit="" xName="step" at={at} lines={gaps} first={1} />
      </div>
    </>
  );
}

const MANY = 6; // more replays than this are chosen from a list

/** A file has the engine's replays of the changes that are asked for first. */
function Kept({ here, change, found }: { here: Consequence[]; change: Change; found: boolean }) {
  const { source, frame, state, set } = useStore();
  const { what_if: kept, frames } = source.document;
  const mine = here.filter((c) => c.change.kind === change.kind);
  const steps = frames.map((f, i) => ({ f, i })).filter(({ f, i }) => i !== state.frame && kept.some((c) => c.step === f.step));
  if (!kept.length) return <p class="hint">This report keeps no replays. Train with a record (<code>record=True</code>) and write it again, or ask for any change with <code>chainrule view RUN</code>.</p>;
  return (
    <div class="kept">
      {mine.length > MANY && (
        <label class="field">{found ? "Also replayed" : "This file keeps the replays of"}{" "}
          <select value={mine.findIndex((c) => same(c.change, change))} onChange={(event) => { const c = mine[Number(event.currentTarget.value)]; if (c) set({ change: c.change }); }}>
            {!mine.some((c) => same(c.change, change)) && <option value={-1}>choose one</option>}
            {mine.map((c, i) => <option key={i} value={i}>{words(source, frame, c.change)}</option>)}
          </select>
        </label>
      )}
      {mine.length > 0 && mine.length <= MANY && (
        <div class="presets" role="group" aria-label="Changes whose following steps are kept">
          <span>{found ? "Also replayed:" : "This file keeps the replays of:"}</span>
          {mine.map((c, i) => <button type="button" key={i} aria-pressed={same(c.change, change)} onClick={() => set({ change: c.change })}>{words(source, frame, c.change)}</button>)}
        </div>
      )}
      <p>
        {!mine.length && "At this step the file keeps no replay of such a change. "}
        {steps.length > 0 && <>Replays begin {mine.length > 0 ? "also " : ""}at {steps.map(({ f, i }) => <button type="button" key={i} onClick={() => set({ frame: i })}>step {count(f.step)}</button>)}. </>}
        <code>chainrule view RUN</code> replays any change from any step.
      </p>
    </div>
  );
}

export function same(a: Change, b: Change): boolean {
  const text = (change: Change) => Object.entries(change).map(([key, value]) => `${key}=${value}`).sort().join();
  return text(a) === text(b);
}
