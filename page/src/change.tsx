// What is changed: the number as it was, as it should be, and the values that one tries first.

import { useMemo } from "preact/hooks";
import { first, kinds, labels, type Kind } from "./changes";
import { num, type Change } from "./document";
import { extent, range } from "./colours";
import { Num, format } from "./numbers";
import { Matrix } from "./pictures";
import { clamped, ravel } from "./places";
import { useStore } from "./state";

const NAMES: Record<Kind, string> = { weight: "Weight", input: "Input", label: "Label", rate: "Learning rate" };

interface Props<C extends Change = Change> {
  change: C;
  choose(change: Change): void;
}

export function ChangePanel({ change, choose }: Props) {
  const { source, frame } = useStore();
  return (
    <section class="panel change" aria-labelledby="change-title">
      <h2 id="change-title">The change</h2>
      <div class="switch" role="group" aria-label="What is changed">
        {kinds(source).map((kind) => <button type="button" key={kind} aria-pressed={change.kind === kind} onClick={() => choose(first(source, frame, kind))}>{NAMES[kind]}</button>)}
      </div>
      {change.kind === "weight" && <WeightChange change={change} choose={choose} />}
      {change.kind === "input" && <InputChange change={change} choose={choose} />}
      {change.kind === "label" && <LabelChange change={change} choose={choose} />}
      {change.kind === "rate" && <RateChange change={change} choose={choose} />}
    </section>
  );
}

type Of<K extends Kind> = Extract<Change, { kind: K }>;

function WeightChange({ change, choose }: Props<Of<"weight">>) {
  const { source, frame } = useStore();
  const { parameters } = source.document;
  const p = parameters.findIndex((parameter) => parameter.name === change.parameter);
  const { shape, name } = parameters[p]!;
  const places = change.index.split(", ").filter(Boolean).map(Number);
  const value = source.tensor(frame.params[p]?.value);
  const update = source.tensor(frame.params[p]?.update)?.data[ravel(places, shape)];
  const to = (parameter: string, index: number[]) => {
    const q = parameters.findIndex((other) => other.name === parameter);
    const data = source.tensor(frame.params[q]?.value)?.data;
    const there = data?.[ravel(index, parameters[q]!.shape)];
    choose({ kind: "weight", parameter, index: index.join(", "), value: there === undefined ? 0 : there === 0 ? 0.1 : 0 });
  };
  const before = value?.data[ravel(places, shape)];
  const most = useMemo(() => (value ? 1.5 * extent(value.data) || 1 : 1), [value]);
  return (
    <>
      <p class="fields">
        <label class="field">Parameter{" "}
          <select value={name} onChange={(event) => { const q = parameters.find((other) => other.name === event.currentTarget.value)!; to(q.name, q.shape.map(() => 0)); }}>
            {parameters.map((q) => <option key={q.name} value={q.name}>{q.name}</option>)}
          </select>
        </label>
        {places.map((place, axis) => (
          <label class="field" key={axis}>
            {shape.length === 1 ? "Index" : (["Row", "Column"][axis] ?? `Axis ${axis}`)}{" "}
            <input type="number" min="0" max={shape[axis]! - 1} value={place} onInput={(event) => to(name, places.with(axis, clamped(event.currentTarget.value, shape[axis]!)))} />
          </label>
        ))}
      </p>
      <Value before={before} after={change.value} most={most} change={(next) => choose({ ...change, value: Math.fround(next) })}
        presets={before === undefined ? [["0", 0]] : [
          ["0", 0], ["+10 %", before * 1.1], ["−10 %", before * 0.9], ["sign turned", -before],
          ...(update === undefined ? [] : ([["after its update", before + update]] as [string, number][])),
        ]} />
    </>
  );
}

function InputChange({ change, choose }: Props<Of<"input">>) {
  const { source, frame } = useStore();
  const { data, graph } = source.document;
  const node = graph.nodes.findIndex((n) => n.kind === "input");
  const size = graph.nodes[node]!.shape.slice(1).reduce((a, b) => a * b, 1);
  const place = frame.rows.indexOf(change.row);
  const all = source.tensor(frame.given?.[String(node)])?.data;
  const row = useMemo(() => (all && place >= 0 ? Array.from({ length: size }, (_, i) => all[place * size + i]!) : null), [all, place, size]);
  const [lo, hi] = useMemo(() => (all ? range(all) : [-1, 1]), [all]);
  const image = data?.image && data.image[0] * data.image[1] === size ? data.image : null;
  return (
    <>
      <p class="fields">
        <RowField row={change.row} choose={(next) => choose({ ...change, row: next })} />
        <label class="field">Feature <input type="number" min="0" max={size - 1} value={change.index} onInput={(event) => choose({ ...change, index: clamped(event.currentTarget.value, size) })} /></label>
      </p>
      {row && image && <Matrix data={row.with(change.index, change.value)} rows={image[0]} columns={image[1]} label={`Row ${change.row} as an image, with the change`} unsigned selected={change.index} pick={(index) => choose({ ...change, index })} most={22} />}
      <Value before={row?.[change.index]} after={change.value} most={Math.max(Math.abs(lo), Math.abs(hi)) || 1} least={lo < 0 ? undefined : 0} change={(value) => choose({ ...change, value: Math.fround(value) })}
        presets={[["0", 0], ["the largest", hi], ...(lo < 0 ? ([["the smallest", lo]] as [string, number][]) : [])]} />
    </>
  );
}

function LabelChange({ change, choose }: Props<Of<"label">>) {
  const { source, frame } = useStore();
  const { classes } = source.document.data!;
  const place = frame.rows.indexOf(change.row);
  const was = labels(source, frame)?.[place];
  return (
    <>
      <p class="fields">
        <RowField row={change.row} choose={(row) => choose({ ...change, row })} />
        <label class="field">If it were{" "}
          <select value={change.value} onChange={(event) => choose({ ...change, value: Number(event.currentTarget.value) })}>
            {classes.map((name, i) => <option key={i} value={i}>{name}</option>)}
          </select>
        </label>
      </p>
      {was !== undefined && <p class="facts">Its label is <strong>{classes[was] ?? was}</strong>.</p>}
    </>
  );
}

function RateChange({ change, choose }: Props<Of<"rate">>) {
  const { frame } = useStore();
  const rate = num(frame.lr);
  return (
    <Value before={rate} after={change.value} most={10 * rate || 1} least={0} change={(value) => choose({ kind: "rate", value })} plain
      presets={[["0", 0], ["a tenth", 0.1 * rate], ["half", 0.5 * rate], ["twice", 2 * rate], ["ten times", 10 * rate]]} />
  );
}

/** Which row of the batch. */
function RowField({ row, choose }: { row: number; choose(row: number): void }) {
  const { source, frame } = useStore();
  const of = labels(source, frame);
  const classes = source.document.data?.classes;
  const known = frame.rows.includes(row);
  return (
    <label class="field">Row of the batch{" "}
      <select value={row} onChange={(event) => choose(Number(event.currentTarget.value))}>
        {!known && <option value={row}>{row} (of another batch)</option>}
        {frame.rows.map((r, i) => <option key={r} value={r}>{r}{of && classes ? ` (${classes[of[i]!]})` : ""}</option>)}
      </select>
    </label>
  );
}

interface ValueProps {
  before: number | undefined;
  after: number;
  most: number;
  least?: number | undefined;
  plain?: boolean;
  presets: [string, number][];
  change(value: number): void;
}

/** The number as it was, a slider and a field for the one it is to be, and the values that one tries first. */
function Value({ before, after, most, least, plain = false, presets, change }: ValueProps) {
  const limit = Math.max(most, Math.abs(after), Math.abs(before ?? 0));
  const lowest = least ?? -limit;
  return (
    <>
      <dl class="numbers">
        <div><dt>as it was</dt><dd data-name="before">{before === undefined ? <span class="quiet">not in this file</span> : <Num value={before} digits={6} plain={plain} />}</dd></div>
        <div><dt>if</dt><dd data-name="after"><Num value={after} digits={6} plain={plain} /></dd></div>
      </dl>
      <div class="value">
        <input type="range" aria-label="New value" min={lowest} max={limit} step={(limit - lowest) / 400} value={after} aria-valuetext={format(after)} onInput={(event) => change(Number(event.currentTarget.value))} />
        <input type="number" aria-label="New value, typed" step="any" value={Number(after.toPrecision(6))} onChange={(event) => { const typed = Number(event.currentTarget.value); if (Number.isFinite(typed) && event.currentTarget.value !== "" && typed >= (least ?? -Infinity)) change(typed); }} />
      </div>
      <div class="presets" role="group" aria-label="Values to try">
        {presets.map(([name, value]) => <button type="button" key={name} aria-pressed={Math.fround(value) === Math.fround(after)} onClick={() => change(value)}>{name}</button>)}
      </div>
    </>
  );
}
