// What a change is of, in words and in the arrays of the step.

import { num, type Change, type Frame, type Source } from "./document";
import type { Recomputed } from "./evaluate";
import { format } from "./numbers";
import { ravel, unravel } from "./places";
import { strongest } from "./terms";

/** Where a change takes place in what a step reads. */
export interface Target {
  before: number;
  after: number;
  values(step: Recomputed): Map<number, ArrayLike<number>>;
  slope: [node: number, index: number] | null; // where the loss has a derivative by it
  engine: number | null; // that derivative, where the engine's own is at hand
}

/** The place of a change in the arrays of a frame; null where it has none (a row that is not in the batch). */
export function target(source: Source, frame: Frame, change: Exclude<Change, { kind: "rate" }>): Target | null {
  const { graph, parameters } = source.document;
  if (change.kind === "weight") {
    const p = parameters.findIndex((parameter) => parameter.name === change.parameter);
    const { node, shape } = parameters[p]!;
    const index = ravel(change.index.split(", ").filter(Boolean).map(Number), shape);
    const before = source.tensor(frame.params[p]?.value)?.data[index];
    if (before === undefined) return null;
    return at(node, index, before, change.value, source.tensor(frame.params[p]?.grad)?.data[index] ?? null);
  }
  const place = frame.rows.indexOf(change.row);
  if (place < 0) return null;
  if (change.kind === "input") {
    const node = graph.nodes.findIndex((n) => n.kind === "input");
    const data = source.tensor(frame.given?.[String(node)])?.data;
    if (!data) return null;
    const index = place * (data.length / frame.rows.length) + change.index;
    return at(node, index, data[index]!, change.value, null);
  }
  const nodes = labelNodes(source, frame);
  const before = nodes.length ? source.tensor(frame.given![String(nodes[0])])!.data[place]! : NaN;
  const values = (step: Recomputed) => new Map(nodes.flatMap((node) => [...step.replaced(node, place, change.value)]));
  return nodes.length ? { before, after: change.value, values, slope: null, engine: null } : null;
}

function at(node: number, index: number, before: number, after: number, engine: number | null): Target {
  return { before, after, values: (step) => step.replaced(node, index, after), slope: [node, index], engine };
}

/** The nodes that hold the class of each row of the batch. */
function labelNodes(source: Source, frame: Frame): number[] {
  const { nodes } = source.document.graph;
  return Object.keys(frame.given ?? {}).map(Number).filter((i) => nodes[i]!.label === "target" && nodes[i]!.dtype === "int64" && nodes[i]!.shape.reduce((a, b) => a * b, 1) === frame.rows.length);
}

/** The class of each row of the batch; null where the targets are no classes. */
export function labels(source: Source, frame: Frame): ArrayLike<number> | null {
  const [node] = labelNodes(source, frame);
  return node === undefined || !source.document.data ? null : source.tensor(frame.given![String(node)])!.data;
}

/** What the gradient alone foretells. */
export function firstOrder(slope: number, before: number, after: number): number {
  return slope * (after - before);
}

/** A change of a step in words. */
export function words(source: Source, frame: Frame, change: Change): string {
  const classes = source.document.data?.classes;
  if (change.kind === "rate") {
    const rate = num(frame.lr);
    return `learning rate ${rate ? `× ${format(change.value / rate, 3)}` : format(change.value)}`;
  }
  if (change.kind === "weight") return `${change.parameter}[${change.index}] = ${format(change.value)}`;
  if (change.kind === "label") return `label of row ${change.row} = ${classes?.[change.value] ?? change.value}`;
  return `input ${change.index} of row ${change.row} = ${format(change.value)}`;
}

// -- where one begins ----------------------------------------------------------------------------------------

export type Kind = Change["kind"];

/** The kinds of change that there are for a document. */
export function kinds(source: Source): Kind[] {
  const { graph, parameters, frames } = source.document;
  const input = graph.nodes.find((node) => node.kind === "input");
  const over = source.document.data !== null && frames.some((frame) => labels(source, frame) !== null || source.document.what_if.some((c) => c.change.kind === "label"));
  return [...(parameters.length ? ["weight" as const] : []), ...(input?.dtype.startsWith("float") ? ["input" as const] : []), ...(over ? ["label" as const] : []), "rate"];
}

/** A change of a kind to begin with. */
export function first(source: Source, frame: Frame, kind: Kind): Change {
  const { parameters, what_if, data } = source.document;
  const kept = what_if.find((c) => c.step === frame.step && c.change.kind === kind);
  if (kind === "rate") return { kind, value: 2 * num(frame.lr) };
  if (kept) return kept.change;
  const row = frame.rows[frame.probe]!;
  if (kind === "input") return { kind, row, index: 0, value: 0 };
  if (kind === "label") return { kind, row, value: data!.classes.length - 1 };
  const { name, shape } = parameters[0]!;
  return { kind, parameter: name, index: unravel(strongest(source, frame, 0), shape).join(", "), value: 0 };
}
