// The sums behind a number of a product: which terms it is made of, strongest first.

import type { Document, Frame, GraphNode, Parameter, Source, Tensor } from "./document";

export interface Term {
  name: string;
  left: number;
  right: number;
  value: number;
}

export interface Sum {
  of: string; // what is summed over
  left: string;
  right: string;
  terms: Term[]; // strongest first
  total: number; // of all terms, added in float64
  engine: number; // the number that the engine computed
}

function sum(of: string, left: string, right: string, terms: Term[], engine: number): Sum {
  const total = terms.reduce((a, t) => a + t.value, 0);
  terms.sort((a, b) => Math.abs(b.value) - Math.abs(a.value));
  return { of, left, right, terms, total, engine };
}

/** The weight matrix whose product a node is. */
export function factorOf(document: Document, node: number): number | null {
  const found = document.parameters.findIndex((p) => p.contraction?.out === node);
  return found < 0 ? null : found;
}

function weightAt(parameter: Parameter, weights: Tensor, output: number, input: number): number {
  const [, columns = 1] = parameter.shape;
  const at = parameter.contraction!.transposed ? output * columns + input : input * columns + output;
  return weights.data[at]!;
}

/** Y[i] = sum over j of x[j] W[i, j], for the sample that is shown. */
export function forwardTerms(source: Source, frame: Frame, node: number, element: number): Sum | null {
  const p = factorOf(source.document, node);
  if (p === null) return null;
  const parameter = source.document.parameters[p]!;
  const x = source.tensor(frame.values[String(parameter.contraction!.x)]);
  const weights = source.tensor(frame.params[p]?.value);
  const Y = source.tensor(frame.values[String(node)]);
  if (!x || !weights || !Y) return null;
  const terms = Array.from(x.data, (value, j) => {
    const weight = weightAt(parameter, weights, element, j);
    return { name: `input ${j}`, left: value, right: weight, value: value * weight };
  });
  return sum("inputs j", `x[j]`, `${parameter.name}[${element}, j]`, terms, Y.data[element]!);
}

/** dL/dx[j] = sum over i of dL/dY[i] W[i, j], for the sample that is shown. */
export function backwardTerms(source: Source, frame: Frame, node: number, element: number): Sum | null {
  const p = factorOf(source.document, node);
  if (p === null) return null;
  const parameter = source.document.parameters[p]!;
  const dY = source.tensor(frame.grads[String(node)]);
  const weights = source.tensor(frame.params[p]?.value);
  const dX = source.tensor(frame.grads[String(parameter.contraction!.x)]);
  if (!dY || !weights || !dX) return null;
  const terms = Array.from(dY.data, (value, i) => {
    const weight = weightAt(parameter, weights, i, element);
    return { name: `unit ${i}`, left: value, right: weight, value: value * weight };
  });
  return sum("units i", `∂L/∂Y[i]`, `${parameter.name}[i, ${element}]`, terms, dX.data[element]!);
}

/** dL/dW[i, j] = sum over the batch of dL/dY[., i] x[., j]; for a bias the factor x is 1. */
export function weightTerms(source: Source, frame: Frame, p: number, index: number): Sum | null {
  const parameter = source.document.parameters[p]!;
  const gradient = source.tensor(frame.params[p]?.grad);
  if (!gradient) return null;
  if (parameter.contraction) {
    const { x, out, transposed } = parameter.contraction;
    const columns = parameter.shape[1]!;
    const [row, column] = [Math.floor(index / columns), index % columns];
    const [unit, input] = transposed ? [row, column] : [column, row];
    return overBatch(source, frame, out, unit, x, input, gradient.data[index]!);
  }
  const out = biasOf(source.document, parameter);
  return out === null ? null : overBatch(source, frame, out, index, null, 0, gradient.data[index]!);
}

/** The product that a bias is added to. */
function biasOf(document: Document, parameter: Parameter): number | null {
  const { nodes } = document.graph;
  const readers = nodes.filter((node: GraphNode) => node.inputs.includes(parameter.node));
  if (readers.length !== 1 || readers[0]!.op !== "add" || parameter.shape.length !== 1) return null;
  const other = readers[0]!.inputs.find((i) => i !== parameter.node);
  return other !== undefined && factorOf(document, other) !== null ? other : null;
}

function overBatch(
  source: Source, frame: Frame, out: number, unit: number, x: number | null, input: number, engine: number,
): Sum | null {
  const dY = source.tensor(frame.batch_grads?.[String(out)]);
  const values = x === null ? null : source.tensor(frame.batch?.[String(x)]);
  if (!dY || (x !== null && !values)) return null;
  const units = dY.shape[1]!;
  const inputs = values?.shape[1] ?? 1;
  const terms = frame.rows.map((row, s) => {
    const left = dY.data[s * units + unit]!;
    const right = values ? values.data[s * inputs + input]! : 1;
    return { name: `row ${row}`, left, right, value: left * right };
  });
  return sum("samples s of the batch", `∂L/∂Y[s, ${unit}]`, x === null ? "1" : `x[s, ${input}]`, terms, engine);
}

/** The index of the weight that is pulled most at this step, or at the nearest one that keeps every weight. */
export function strongest(source: Source, frame: Frame, p: number): number {
  const kept = frame.params[p]?.grad ? frame : source.document.frames.findLast((f) => f.params[p]?.grad);
  const data = source.tensor(kept?.params[p]?.grad)?.data ?? [];
  let best = 0;
  for (let i = 0; i < data.length; i++) if (Math.abs(data[i]!) > Math.abs(data[best]!)) best = i;
  return best;
}
