// One weight: where it stands, why its gradient is what it is, and what the optimizer made of it.

import type { Parameter, Source, Tensor } from "./document";
import { num } from "./document";
import { Formula } from "./math";
import { Num, count, format } from "./numbers";
import { Matrix, Tiles } from "./pictures";
import { Derived } from "./derived";
import { CheckOf, NotKept, SumTable } from "./panel";
import { clamped, ravel, unravel } from "./places";
import { useWeight } from "./remote";
import { sizes } from "./scene";
import { useStore } from "./state";
import { Pager, WithTable } from "./table";
import { weightTerms } from "./terms";
import { useEffect, useMemo, useState } from "preact/hooks";

export function WeightPanel({ parameter: p, index }: { parameter: number; index: number }) {
  const { source, frame, set } = useStore();
  const parameter = source.document.parameters[p]!;
  const measured = frame.params[p];
  const [shown, show] = useState<"value" | "grad">("value");
  const choose = (next: number) => set({ selection: { kind: "weight", parameter: p, index: next } });
  const [asked, askFor] = useState(frame.step);
  useEffect(() => askFor(frame.step), [frame.step]);
  const step = source.document.live ? asked : frame.step;
  const array = source.tensor(shown === "value" ? (measured?.value ?? measured?.value_picture) : (measured?.grad ?? measured?.grad_picture));
  return (
    <section class="panel" aria-labelledby="panel-title">
      <header>
        <h2 id="panel-title">{parameter.name}</h2>
        <p class="facts">
          weight · {sizes(parameter.shape)} · norm {format(num(measured?.norm))} · gradient norm {format(num(measured?.grad_norm))} · update to weight {format(num(measured?.ratio), 3)}
        </p>
      </header>
      <div class="switch" role="group" aria-label="What the picture shows">
        <button type="button" aria-pressed={shown === "value"} onClick={() => show("value")}>Weights</button>
        <button type="button" aria-pressed={shown === "grad"} onClick={() => show("grad")}>Gradients</button>
      </div>
      {array && <WeightPicture parameter={parameter} array={array} index={index} what={shown === "value" ? "weights" : "gradients"} choose={choose} />}
      {(array?.exact || source.document.live) && <Place parameter={parameter} index={index} choose={choose} />}
      {(array?.exact || source.document.live) && (
        <p><button type="button" onClick={() => set({ view: "whatif", change: { kind: "weight", parameter: parameter.name, index: unravel(index, parameter.shape).join(", "), value: 0 } })}>What if it were another?</button></p>
      )}
      {source.document.live && <AtStep step={step} choose={askFor} />}
      {step !== frame.step ? <Asked p={p} index={index} step={step} /> : array?.exact ? <OneWeight p={p} index={index} /> : source.document.live ? <Asked p={p} index={index} step={step} /> : <NotKept />}
      <CheckOf subjects={[parameter.name, ...readers(source, parameter)]} />
    </section>
  );
}

/** The ops that read a parameter: their rules make its gradient. */
function readers({ document }: Source, { node, contraction }: Parameter): string[] {
  const ops = document.graph.nodes.filter((reader) => reader.inputs.includes(node)).map((reader) => reader.op);
  return contraction ? [...ops, document.graph.nodes[contraction.out]!.op] : ops;
}

interface PictureProps {
  parameter: Parameter;
  array: Tensor;
  index: number;
  what: string;
  choose(index: number): void;
}

function WeightPicture({ parameter, array, index, what, choose }: PictureProps) {
  const [rows, columns] = array.shape.length > 1 ? [array.shape[0]!, array.data.length / array.shape[0]!] : [1, array.data.length];
  const whole = array.data.length === parameter.shape.reduce((a, b) => a * b, 1);
  const pick = array.exact && whole ? choose : undefined;
  const note = whole ? "" : ` (the first ${rows} by ${columns})`;
  const label = `The ${what} of ${parameter.name}${note}`;
  const { tile } = parameter;
  const picture =
    tile && columns === tile[0] * tile[1] ? (
      <UnitTiles data={array.data} tile={tile} rows={rows} label={label} index={array.exact ? index : null} pick={pick} />
    ) : (
      <Matrix data={array.data} rows={rows} columns={columns} label={label} selected={array.exact ? index : null} pick={pick} />
    );
  if (!array.exact) return <>{picture}<p class="facts">A picture in 256 shades{note}; exact numbers are at the steps named below.</p></>;
  const head = ["unit", ...Array.from({ length: columns }, (_, j) => String(j))];
  return <WithTable table={() => ({ caption: label, head, rows, row: (i) => [String(i), ...Array.from({ length: columns }, (_, j) => array.data[i * columns + j]!)] })}>{picture}</WithTable>;
}

const UNITS = 64;

interface UnitTilesProps {
  data: ArrayLike<number>;
  tile: [number, number];
  rows: number;
  label: string;
  index: number | null;
  pick: ((index: number) => void) | undefined;
}

/** The weights into each unit as an image, 64 units at a time; the chosen one large beside them. */
function UnitTiles({ data, tile, rows, label, index, pick }: UnitTilesProps) {
  const size = tile[0] * tile[1];
  const chosen = index === null ? null : Math.floor(index / size);
  const [first, setFirst] = useState(0);
  useEffect(() => { if (chosen !== null) setFirst(Math.floor(chosen / UNITS) * UNITS); }, [chosen]);
  const shown = Math.min(UNITS, rows - first);
  const part = useMemo(() => Array.prototype.slice.call(data, first * size, (first + shown) * size) as number[], [data, first, shown, size]);
  const unit = useMemo(() => (chosen === null ? null : (Array.prototype.slice.call(data, chosen * size, (chosen + 1) * size) as number[])), [data, chosen, size]);
  return (
    <div class="units">
      <div>
        <Tiles data={part} tile={tile} count={shown} label={`${label}: one image of ${tile[0]} by ${tile[1]} for each of the units ${first} to ${first + shown - 1}`}
          selected={chosen === null ? null : chosen - first} {...(pick ? { pick: (t: number, pixel: number) => pick((first + t) * size + pixel) } : {})} />
        {rows > UNITS && <Pager what="units" first={first} step={UNITS} total={rows} set={setFirst} />}
      </div>
      {unit && index !== null && (
        <figure>
          <Matrix data={unit} rows={tile[0]} columns={tile[1]} label={`Into unit ${chosen}`} selected={index % size} pick={pick && ((pixel: number) => pick(chosen! * size + pixel))} most={24} />
          <figcaption class="facts">into unit {chosen}</figcaption>
        </figure>
      )}
    </div>
  );
}

/** Number fields for the weight's index. */
function Place({ parameter, index, choose }: { parameter: Parameter; index: number; choose(index: number): void }) {
  const places = unravel(index, parameter.shape);
  return (
    <p class="fields">
      {places.map((place, axis) => (
        <label class="field" key={axis}>
          {parameter.shape.length === 1 ? "Index" : (["Row", "Column"][axis] ?? `Axis ${axis}`)}{" "}
          <input type="number" min="0" max={parameter.shape[axis]! - 1} value={place}
            onInput={(event) => choose(ravel(places.with(axis, clamped(event.currentTarget.value, parameter.shape[axis]!)), parameter.shape))} />
        </label>
      ))}
    </p>
  );
}

function OneWeight({ p, index }: { p: number; index: number }) {
  const { source, frame } = useStore();
  const parameter = source.document.parameters[p]!;
  const measured = frame.params[p]!;
  const [value, gradient, update] = [measured.value, measured.grad, measured.update].map((ref) => source.tensor(ref)?.data[index]);
  if (value === undefined || gradient === undefined) return null;
  const name = `${parameter.name}[${unravel(index, parameter.shape).join(", ")}]`;
  const known = source.document.derivations[`${name}@${frame.step}`];
  const total = weightTerms(source, frame, p, index);
  return (
    <>
      <h3>{name}<small> at step {count(frame.step)}</small></h3>
      <Numbers value={value} gradient={gradient} update={update} />
      {known ? <Derived derivation={known} /> : source.document.live ? <Asked p={p} index={index} step={frame.step} bare /> : <Explained p={p} />}
      {!known && (
        <>
          <h3>Sample by sample</h3>
          {parameter.formula && <Formula tree={parameter.formula} label={`Derivative of the loss by ${name}`} />}
          {total ? <SumTable sum={total} title={`${name}: the samples that pull it, strongest first`} /> : <NotKept />}
        </>
      )}
    </>
  );
}

/** Where a server answers, any recorded step can be asked for, and not only those that the slider stops at. */
function AtStep({ step, choose }: { step: number; choose(step: number): void }) {
  const { source } = useStore();
  const { first, end } = source.document.live!;
  return (
    <p class="fields">
      <label class="field">
        Step <input type="number" min={first} max={end - 1} value={step} onInput={(event) => choose(first + clamped(String(Number(event.currentTarget.value) - first), end - first))} />
      </label>
      <span class="facts">of {count(first)} to {count(end - 1)}</span>
    </p>
  );
}

/** A weight that the document does not hold at this step, asked of the server. */
function Asked({ p, index, step, bare = false }: { p: number; index: number; step: number; bare?: boolean }) {
  const { source } = useStore();
  const parameter = source.document.parameters[p]!;
  const places = unravel(index, parameter.shape);
  const answer = useWeight(true, parameter.name, places, step);
  return (
    <>
      {!bare && <h3>{parameter.name}[{places.join(", ")}]<small> at step {count(step)}</small></h3>}
      {answer === null && <p class="hint">Asking…</p>}
      {typeof answer === "string" && <p class="bad">{answer}</p>}
      {!bare && answer !== null && typeof answer !== "string" && <Numbers value={num(answer.value)} gradient={num(answer.gradient)} update={num(answer.update)} />}
      {answer !== null && typeof answer !== "string" && answer.derivation && <Derived derivation={answer.derivation} />}
    </>
  );
}

/** Which weights of this parameter the file explains in full. */
function Explained({ p }: { p: number }) {
  const { source, state, set } = useStore();
  const { document } = source;
  const { name, shape } = document.parameters[p]!;
  const keys = Object.keys(document.derivations).filter((key) => key.startsWith(`${name}[`));
  const frame = document.frames.findLastIndex((f) => keys.some((key) => key.endsWith(`@${f.step}`)));
  if (!keys.length || frame < 0) return null;
  return (
    <p class="hint">
      Paths to the loss and the ledger of the update stand in this file for the weights that are pulled most{frame !== state.frame && <>, at step {count(document.frames[frame]!.step)}</>}:{" "}
      {keys.map((key) => {
        const places = key.slice(name.length + 1, key.lastIndexOf("]"));
        return <button type="button" key={key} onClick={() => set({ frame, selection: { kind: "weight", parameter: p, index: ravel(places.split(", ").map(Number), shape) } })}>[{places}]</button>;
      })}{" "}
      and with <code>chainrule view RUN</code> for every weight at every step.
    </p>
  );
}

function Numbers({ value, gradient, update }: { value: number; gradient: number; update: number | undefined }) {
  return (
    <dl class="numbers">
      <div><dt>value</dt><dd data-name="value"><Num value={value} digits={6} /></dd></div>
      <div><dt>gradient</dt><dd data-name="gradient"><Num value={gradient} digits={6} /></dd></div>
      {update !== undefined && <div><dt>update</dt><dd data-name="update"><Num value={update} digits={6} /></dd></div>}
      {update !== undefined && <div><dt>new value</dt><dd data-name="new"><Num value={value + update} digits={6} /></dd></div>}
    </dl>
  );
}
