// What is known of the op, weight or module that was chosen: formulas, numbers, sums, pictures.

import type { GraphNode, Rule, Tensor } from "./document";
import { num } from "./document";
import { extent } from "./colours";
import { Formula, type Lookup } from "./math";
import { Num, count, exact, format } from "./numbers";
import { Strip } from "./pictures";
import { clamped } from "./places";
import { moduleName, sizes } from "./scene";
import { useStore, type Phase } from "./state";
import { Fold, Table, WithTable } from "./table";
import { backwardTerms, factorOf, forwardTerms, strongest, type Sum } from "./terms";
import { WeightPanel } from "./weight";

export function Panel() {
  const { state } = useStore();
  const { selection } = state;
  if (!selection) return <p class="hint">Choose an op, a module or a weight in the graph to see its numbers and its derivative.</p>;
  if (selection.kind === "weight") return <WeightPanel parameter={selection.parameter} index={selection.index} />;
  if (selection.kind === "module") return <ModulePanel module={selection.module} phase={selection.phase} />;
  return <OpPanel node={selection.node} phase={selection.phase} element={selection.element} />;
}

// -- a module ----------------------------------------------------------------------------------

function ModulePanel({ module, phase }: { module: number; phase: Phase }) {
  const { source, state, set } = useStore();
  const { document } = source;
  const inside = (at: number | null): boolean => at === module || (at !== null && inside(document.graph.modules[at]!.parent));
  const members = document.graph.nodes.map((node, i) => ({ node, i })).filter(({ node }) => inside(node.module));
  const flowing = members.filter(({ node }) => node.flows);
  const output = flowing[flowing.length - 1];
  const input = flowing[0]?.node.inputs.find((i) => document.graph.nodes[i]!.flows);
  const parameters = document.parameters.map((p, i) => ({ p, i })).filter(({ p }) => inside(document.graph.nodes[p.node]!.module));
  const open = () => set({ open: new Set([...state.open, module]) });
  return (
    <section class="panel" aria-labelledby="panel-title">
      <header>
        <h2 id="panel-title">{moduleName(document, module)}</h2>
        <p class="facts">module · {members.filter(({ node }) => node.inputs.length).length} ops · {phase}</p>
      </header>
      <p><button type="button" onClick={open}>Show its ops</button></p>
      {output && phase === "forward" && <Values title="Output" node={output.i} phase="forward" />}
      {output && phase === "backward" && <Values title="Gradient that arrives at the output" node={output.i} phase="backward" />}
      {input !== undefined && document.graph.nodes[input]!.twin && phase === "backward" && <Values title="Gradient handed on to the input" node={input} phase="backward" />}
      {parameters.map(({ p, i }) => <ParameterLink key={p.name} parameter={i} />)}
    </section>
  );
}

export function ParameterLink({ parameter }: { parameter: number }) {
  const { source, set, frame } = useStore();
  const { name, shape } = source.document.parameters[parameter]!;
  const measured = frame.params[parameter];
  return (
    <p class="link-row">
      <button type="button" onClick={() => set({ selection: { kind: "weight", parameter, index: strongest(source, frame, parameter) } })}>{name}</button>{" "}
      <span class="facts">
        {sizes(shape)} · norm {format(num(measured?.norm))} · gradient norm {format(num(measured?.grad_norm))}
      </span>
    </p>
  );
}

// -- an op ---------------------------------------------------------------------------------------

function OpPanel({ node: id, phase, element }: { node: number; phase: Phase; element: number }) {
  const { source, set } = useStore();
  const { document } = source;
  const node = document.graph.nodes[id]!;
  const parameter = document.parameters.findIndex((p) => p.node === id);
  if (parameter >= 0) return <WeightPanel parameter={parameter} index={element} />;
  const choose = (next: number) => set({ selection: { kind: "node", node: id, phase, element: next } });
  const other: Phase = phase === "forward" ? "backward" : "forward";
  return (
    <section class="panel" aria-labelledby="panel-title">
      <header>
        <h2 id="panel-title">{phase === "backward" && <span class="quiet">backward of </span>}{node.label}</h2>
        <p class="facts">
          {moduleName(document, node.module) || "model"} · {node.dtype} {sizes(node.shape)}{node.line && <> · {node.line}</>}
        </p>
      </header>
      {node.twin && <p><button type="button" onClick={() => set({ selection: { kind: "node", node: id, phase: other, element } })}>Go to its {other} twin</button></p>}
      <Values title={phase === "forward" ? "Value" : "Gradient of the loss by this value"} node={id} phase={phase} element={element} pick={choose} />
      <Element node={node} element={element} choose={choose} />
      {phase === "forward" ? <ForwardFormula id={id} node={node} element={element} /> : <BackwardFormulas id={id} node={node} element={element} />}
      <CheckOf subjects={[node.op]} />
    </section>
  );
}

function ForwardFormula({ id, node, element }: { id: number; node: GraphNode; element: number }) {
  const { source, frame } = useStore();
  const formula = node.forward === null || node.forward === undefined ? null : source.document.graph.formulas[node.forward];
  if (!formula) return null;
  const total = forwardTerms(source, frame, id, element);
  const numbers = lookup(source, frame, id, node, element);
  return (
    <section>
      <h3>Forward</h3>
      <Formula tree={formula.tree} label={`Forward formula of ${node.op}`} />
      {numbers && <Formula tree={formula.tree} numbers={numbers} label={`The same with the numbers of element ${element} put in`} />}
      {total && <SumTable sum={total} title={`Y[${element}], term by term`} />}
      {!total && factorOf(source.document, id) !== null && <NotKept />}
    </section>
  );
}

function BackwardFormulas({ id, node, element }: { id: number; node: GraphNode; element: number }) {
  const { source } = useStore();
  if (!node.backward?.length) return <p class="hint">Here the gradient arrives; there is nothing further back.</p>;
  return (
    <section>
      <h3>The chain rule at this op</h3>
      {node.backward.map((rule) => <BackwardFormula key={rule.argument} id={id} node={node} rule={rule} element={element} />)}
      {node.saved?.length ? <p class="facts">It reads what the forward pass saved: {node.saved.map((s) => (s === id ? "its own output" : source.document.graph.nodes[s]!.label)).join(", ")}.</p> : <p class="facts">It needs nothing that the forward pass saved.</p>}
    </section>
  );
}

function BackwardFormula({ id, node, rule, element }: { id: number; node: GraphNode; rule: Rule; element: number }) {
  const { source, frame, set } = useStore();
  const formula = source.document.graph.formulas[rule.formula];
  if (!formula) return null;
  const operand = node.operands![rule.argument]!;
  const target = source.document.graph.nodes[operand.node];
  const parameter = source.document.parameters.findIndex((p) => p.contraction?.out === id && rule.argument === 1);
  const total = rule.argument === 0 ? backwardTerms(source, frame, id, element) : null;
  const numbers = lookup(source, frame, id, node, element, operand.node);
  return (
    <div class="rule">
      <p class="facts">to {target ? target.label : "its input"}</p>
      <Formula tree={formula.tree} label={`Derivative of ${node.op} by ${operand.name}`} />
      {numbers && <Formula tree={formula.tree} numbers={numbers} label={`The same with the numbers of element ${element} put in`} />}
      {total && <SumTable sum={total} title={`Gradient by input ${element}, term by term`} />}
      {parameter >= 0 && (
        <p><button type="button" onClick={() => set({ selection: { kind: "weight", parameter, index: strongest(source, frame, parameter) } })}>Go to {source.document.parameters[parameter]!.name}</button></p>
      )}
    </div>
  );
}

/** The numbers of one element of an elementwise op, by the names of its formula; null where there are none. */
function lookup(
  source: ReturnType<typeof useStore>["source"], frame: ReturnType<typeof useStore>["frame"], id: number, node: GraphNode,
  element: number, target?: number,
): Lookup | null {
  if (node.class !== "elementwise" && node.op !== "reshape") return null;
  const Y = source.tensor(frame.values[String(id)]);
  if (!Y || element >= Y.data.length) return null;
  return (name) => {
    if (name === "Y") return Y.data[element]!;
    if (name === "dY") return at(source.tensor(frame.grads[String(id)]), Y.shape, element);
    const derivative = name.startsWith("d");
    const operand = node.operands?.find((o) => o.name === (derivative ? name.slice(1) : name));
    if (!operand) return null;
    if (operand.value !== null) return num(operand.value);
    if (derivative && (operand.node !== target || readers(source, operand.node) > 1)) return null;
    const array = source.tensor((derivative ? frame.grads : frame.values)[String(operand.node)]);
    return derivative && array?.shape.join() !== Y.shape.join() ? null : at(array, Y.shape, element);
  };
}

function readers(source: ReturnType<typeof useStore>["source"], node: number): number {
  return source.document.graph.nodes.filter((n) => n.inputs.includes(node)).length;
}

/** The element of a broadcast operand that stands at a place of the output. */
function at(array: Tensor | null, shape: number[], element: number): number | null {
  if (!array) return null;
  let rest = element;
  let place = 0;
  let stride = 1;
  for (let axis = 1; axis <= shape.length; axis++) {
    const size = shape[shape.length - axis]!;
    const own = array.shape[array.shape.length - axis] ?? 1;
    place += (own === 1 ? 0 : rest % size) * stride;
    stride *= own;
    rest = Math.floor(rest / size);
  }
  return array.data[place] ?? null;
}

// -- pieces ----------------------------------------------------------------------------------------

interface ValuesProps {
  title: string;
  node: number;
  phase: Phase;
  element?: number;
  pick?: (element: number) => void;
}

/** A value or a gradient of the sample that is shown, as a picture and as a table. */
export function Values({ title, node: id, phase, element, pick }: ValuesProps) {
  const { source, frame } = useStore();
  const node = source.document.graph.nodes[id]!;
  const array = source.tensor((phase === "forward" ? frame.values : frame.grads)[String(id)]);
  if (!array) return <section><h3>{title}</h3><p class="hint">Not kept in this file: it is large ({sizes(node.shape)}).</p></section>;
  const who = node.rows ? ` of row ${frame.rows[frame.probe]}` : "";
  if (array.data.length === 1) return <section><h3>{title}<small>{who}</small></h3><p class="big"><Num value={array.data[0]!} digits={6} plain={phase === "forward"} /></p></section>;
  const image = source.document.data?.image;
  const square = image && image[0] * image[1] === array.data.length && node.kind === "input";
  const shape = square ? [...image] : array.shape;
  const label = `${title}${who}: ${count(array.data.length)} numbers, the largest ${format(extent(array.data))} in size`;
  return (
    <section>
      <h3>{title}<small>{who}</small></h3>
      <WithTable table={() => ({ caption: `${title}${who}`, head: ["element", "number"], rows: array.data.length, row: (i) => [String(i), array.data[i]!] })}>
        <Strip data={array.data} shape={shape.length > 1 ? shape : [array.data.length]} label={label} selected={element ?? null} pick={pick} unsigned={!!square && phase === "forward"} />
      </WithTable>
      <Statistics data={array.data} />
    </section>
  );
}

function Statistics({ data }: { data: ArrayLike<number> }) {
  let [total, zeros, lo, hi] = [0, 0, Infinity, -Infinity];
  for (let i = 0; i < data.length; i++) {
    const value = data[i]!;
    total += value;
    if (value === 0) zeros++;
    lo = Math.min(lo, value);
    hi = Math.max(hi, value);
  }
  return (
    <p class="facts">
      smallest <Num value={lo} /> · mean <Num value={total / data.length} /> · largest <Num value={hi} /> · {format((100 * zeros) / data.length, 3)} % are zero
    </p>
  );
}

function Element({ node, element, choose }: { node: GraphNode; element: number; choose(element: number): void }) {
  const size = node.shape.slice(node.rows ? 1 : 0).reduce((a, b) => a * b, 1);
  if (size <= 1) return null;
  return <label class="field">Element <input type="number" min="0" max={size - 1} value={element} onInput={(event) => choose(clamped(event.currentTarget.value, size))} /> of {count(size)}</label>;
}

/** The strongest terms of a sum, what the others add, and the engine's own number beside the total. */
export function SumTable({ sum, title, most = 6 }: { sum: Sum; title: string; most?: number }) {
  const shown = sum.terms.slice(0, most);
  const rest = sum.terms.slice(most);
  const others = rest.reduce((a, t) => a + t.value, 0);
  return (
    <div class="sum">
      <div class="scroll" tabIndex={0} role="group" aria-label={title}>
        <table>
          <caption>{title}</caption>
          <thead><tr><th scope="col">{sum.of}</th><th scope="col">{sum.left}</th><th scope="col">{sum.right}</th><th scope="col">product</th></tr></thead>
          <tbody>
            {shown.map((term) => (
              <tr key={term.name}><th scope="row">{term.name}</th><td class="number"><Num value={term.left} /></td><td class="number"><Num value={term.right} /></td><td class="number"><Num value={term.value} /></td></tr>
            ))}
            {rest.length > 0 && <tr class="rest"><th scope="row" colSpan={3}>the other {count(rest.length)} together</th><td class="number"><Num value={others} /></td></tr>}
          </tbody>
          <tfoot><tr><th scope="row" colSpan={3}>sum</th><td class="number"><Num value={sum.total} digits={6} /></td></tr></tfoot>
        </table>
      </div>
      <p class="facts">The engine computed <strong class="num" data-engine={String(sum.engine)}>{exact(sum.engine)}</strong>; added here in float64 the terms differ from it by {format(Math.abs(sum.total - sum.engine), 2)} (rounding).</p>
      {sum.terms.length > most && <Fold summary={`All ${sum.terms.length} terms`}>{() => <Table caption={title} head={[sum.of, sum.left, sum.right, "product"]} rows={sum.terms.length} row={(i) => { const t = sum.terms[i]!; return [t.name, t.left, t.right, t.value]; }} />}</Fold>}
    </div>
  );
}

/** Where the chosen step does not keep every weight: which steps do. */
export function NotKept() {
  const { source, state, set } = useStore();
  if (source.document.frames[state.frame]?.whole) return null;
  const kept = source.document.frames.map((f, i) => ({ f, i })).filter(({ f }) => f.whole);
  return (
    <p class="hint">
      At this step the file keeps only pictures of large weights. Every number is there at{" "}
      {kept.map(({ f, i }) => <button type="button" key={i} onClick={() => set({ frame: i })}>step {count(f.step)}</button>)}, and at every step with <code>chainrule view</code>.
    </p>
  );
}

const STATES = { holds: ["✓ holds", "good"], fails: ["✗ fails", "bad"], open: ["? open", "quiet"] } as const;

export function StateOf({ state }: { state: keyof typeof STATES }) {
  const [text, kind] = STATES[state];
  return <strong class={kind}>{text}</strong>;
}

/** What the check says about an op's derivative rule, or about the gradient of a parameter. */
export function CheckOf({ subjects }: { subjects: string[] }) {
  const { source } = useStore();
  const { checks } = source.document;
  const verdicts = checks?.verdicts.filter((v) => subjects.includes(v.subject.split(" ")[0]!)) ?? [];
  if (!verdicts.length) return <p class="facts">{checks ? "This was not among what was checked." : "Check of this derivative: not run."}</p>;
  return (
    <section>
      <h3>Checked</h3>
      <ul class="plain">{verdicts.map((v, i) => <li key={i}><StateOf state={v.state} /> <span class="facts">{v.subject}: {v.detail} ({checks!.sections[v.section] ?? v.section})</span></li>)}</ul>
    </section>
  );
}
