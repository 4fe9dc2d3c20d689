// The forward pass once more, in float64: what becomes of a step's loss and outputs when one number of it is another.

import type { Document, Frame, GraphNode, Source } from "./document";
import { num } from "./document";

type Values = ArrayLike<number>;

const MOST = 2e8; // multiplications that one pass may take in the browser, about a second

/** A step of the document that can be computed again: every array that it reads and does not make. */
export class Recomputed {
  private readonly given = new Map<number, Values>();
  private readonly base: Values[];

  constructor(
    private readonly document: Document,
    leaves: Map<number, Values>,
  ) {
    this.given = leaves;
    this.base = this.pass(new Map(), null);
  }

  /** The values of all nodes, with some of what is given replaced. */
  with(changed: Map<number, Values>): Values[] {
    return this.pass(changed, this.base);
  }

  loss(values: Values[] = this.base): number {
    return values[this.document.graph.loss]![0]!;
  }

  /** What the model made of each row, row after row; null where the step does not tell. */
  output(values: Values[] = this.base): Values | null {
    const { output } = this.document.graph;
    return output === null ? null : values[output]!;
  }

  /** What is given for a node, with one element replaced. */
  replaced(node: number, index: number, value: number): Map<number, Values> {
    const copy = Float64Array.from(this.given.get(node)!);
    copy[index] = value;
    return new Map([[node, copy]]);
  }

  /** d loss / d element, by central differences at the value it is given. */
  slope(node: number, index: number, value: number): number {
    const h = 1e-5 * Math.max(1, Math.abs(value));
    const [higher, lower] = [value + h, value - h].map((v) => this.loss(this.with(this.replaced(node, index, v))));
    return (higher! - lower!) / (2 * h);
  }

  /** Whatever does not depend on what changed is taken over from `base`. */
  private pass(changed: Map<number, Values>, base: Values[] | null): Values[] {
    const fresh = new Set(changed.keys());
    const values: Values[] = [];
    this.document.graph.nodes.forEach((node, i) => {
      if (base && !fresh.has(i) && !node.inputs.some((source) => fresh.has(source))) values.push(base[i]!);
      else {
        fresh.add(i);
        values.push(node.inputs.length ? compute(this.document, node, values) : (changed.get(i) ?? this.given.get(i)!));
      }
    });
    return values;
  }
}

/** The step of a frame, or why it cannot be computed again here. */
export function recomputed(source: Source, frame: Frame): Recomputed | string {
  const { graph, parameters } = source.document;
  if (!frame.whole || !frame.given) return "At this step the file keeps only pictures of large weights.";
  const strange = graph.nodes.find((node) => node.inputs.length && !known(node));
  if (strange) return `This page does not compute the op ${strange.op}.`;
  const work = graph.nodes.reduce((total, node) => total + size(node.shape) * (node.op === "matmul" ? graph.nodes[node.inputs[0]!]!.shape.at(-1)! : 1), 0);
  if (work > MOST) return `One pass through this network takes ${work.toExponential(1)} multiplications.`;
  const leaves = new Map<number, Values>();
  for (const [node, ref] of Object.entries(frame.given)) leaves.set(Number(node), source.tensor(ref)!.data);
  parameters.forEach((parameter, p) => {
    const value = source.tensor(frame.params[p]?.value);
    if (value) leaves.set(parameter.node, value.data);
  });
  const missing = graph.nodes.findIndex((node, i) => !node.inputs.length && !leaves.has(i));
  return missing < 0 ? new Recomputed(source.document, leaves) : `The file does not keep ${graph.nodes[missing]!.label}.`;
}

// -- ops ---------------------------------------------------------------------------------------------

const bit = (condition: boolean): number => (condition ? 1 : 0);

function erf(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x);
  let [term, total] = [x, x];
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(total); n++) total += term *= (2 * x * x) / (2 * n + 1);
  return ((2 / Math.sqrt(Math.PI)) * total) / Math.exp(x * x);
}

/** Laplace's continued fraction in the tail, where 1 - erf has no digits. */
function erfc(x: number): number {
  if (x < 2) return 1 - erf(x);
  let below = x;
  for (let k = 120; k > 0; k--) below = x + k / 2 / below;
  return Math.exp(-x * x) / (Math.sqrt(Math.PI) * below);
}

function mish(x: number): number {
  const z = Math.max(-Math.abs(x), -1000);
  const e = Math.exp(z);
  const part = e * e + (x <= 0 ? 2 * e : e * e);
  return Math.max(x, 0) + (z * part) / (part + (x > 0 ? 2 * e + 1 : 2));
}

const ELEMENTWISE: Record<string, (...x: number[]) => number> = {
  add: (a, b) => a! + b!, sub: (a, b) => a! - b!, mul: (a, b) => a! * b!, div: (a, b) => a! / b!, neg: (a) => -a!,
  pow: (a, b) => a! ** b!, abs: (a) => Math.abs(a!), sign: (a) => bit(a! > 0) - bit(a! < 0), floor: (a) => Math.floor(a!),
  exp: (a) => Math.exp(a!), expm1: (a) => Math.expm1(a!), log: (a) => Math.log(a!), log1p: (a) => Math.log1p(a!),
  sqrt: (a) => Math.sqrt(a!), rsqrt: (a) => 1 / Math.sqrt(a!), sin: (a) => Math.sin(a!), cos: (a) => Math.cos(a!),
  tanh: (a) => Math.tanh(a!), sigmoid: (a) => 1 / (1 + Math.exp(-a!)), mish: (a) => mish(a!), erf: (a) => erf(a!), erfc: (a) => erfc(a!), relu: (a) => (a! < 0 ? 0 : a!),
  maximum: (a, b) => Math.max(a!, b!), minimum: (a, b) => Math.min(a!, b!), where: (c, a, b) => (c ? a! : b!),
  eq: (a, b) => bit(a === b), ne: (a, b) => bit(a !== b), lt: (a, b) => bit(a! < b!), le: (a, b) => bit(a! <= b!),
  gt: (a, b) => bit(a! > b!), ge: (a, b) => bit(a! >= b!), alias: (a) => a!, detach: (a) => a!, check_index: (a) => a!,
}; // prettier-ignore

const REDUCTIONS: Record<string, [number, (a: number, b: number) => number]> = {
  sum: [0, (a, b) => a + b], amax: [-Infinity, Math.max], amin: [Infinity, Math.min],
}; // prettier-ignore

interface Operand {
  data: Values;
  shape: number[];
}

/** What computes an op that is neither elementwise nor a reduction, into `out`. */
type Move = (operands: Operand[], node: GraphNode, out: Float64Array) => void;

const MOVES: Record<string, Move> = {
  reshape: ([x], _, out) => out.set(x!.data),
  permute: ([x], node, out) => read(x!, node, out, list(node, "dims").map((axis) => strides(x!.shape)[axis]!)),
  expand: ([x], node, out) => read(x!, node, out, broadcast(x!.shape, node.shape)),
  slice: ([x], node, out) => {
    const own = strides(x!.shape);
    read(x!, node, out, own.map((step, axis) => step * list(node, "step")[axis]!), dot(own, list(node, "start")));
  },
  flip: ([x], node, out) => {
    const turned = x!.shape.map((_, axis) => list(node, "dims").includes(axis));
    const own = strides(x!.shape);
    const last = own.map((step, axis) => (turned[axis] ? step * (x!.shape[axis]! - 1) : 0));
    read(x!, node, out, own.map((step, axis) => (turned[axis] ? -step : step)), last.reduce((a, b) => a + b, 0));
  },
  pad: ([x], node, out) => {
    const to = strides(node.shape);
    write(x!, out, to.map((step, axis) => step * (1 + list(node, "interior")[axis]!)), dot(to, list(node, "low")));
  },
  cat: (operands, node, out) => {
    const [to, dim] = [strides(node.shape), node.params!["dim"] as number];
    let begin = 0;
    for (const x of operands) {
      write(x, out, to, begin * to[dim]!);
      begin += x.shape[dim]!;
    }
  },
  matmul: product,
  take,
};

function list(node: GraphNode, name: string): number[] {
  return node.params![name] as number[];
}

/** Can this page compute it? */
export function known(node: GraphNode): boolean {
  const whole = node.operands!.every((operand) => operand.node >= 0 || operand.value !== null);
  const float = node.op === "cast" && node.dtype.startsWith("float");
  return whole && (float || node.op in ELEMENTWISE || node.op in REDUCTIONS || node.op in MOVES);
}

function compute(document: Document, node: GraphNode, values: Values[]): Float64Array {
  const operands = node.operands!.map(({ node: i, value }): Operand =>
    i < 0 ? { data: [num(value)], shape: [] } : { data: values[i]!, shape: document.graph.nodes[i]!.shape },
  );
  const out = new Float64Array(size(node.shape));
  const move = MOVES[node.op] ?? (node.op in REDUCTIONS ? reduce : elementwise);
  move(operands, node, out);
  return out;
}

function read(x: Operand, node: GraphNode, out: Float64Array, steps: number[], offset = 0): void {
  walk(node.shape, [steps], [offset], (i, [at]) => { out[i] = x.data[at!]!; });
}

function write(x: Operand, out: Float64Array, steps: number[], offset: number): void {
  walk(x.shape, [steps], [offset], (i, [at]) => { out[at!] = x.data[i]!; });
}

function reduce([x]: Operand[], node: GraphNode, out: Float64Array): void {
  const [start, join] = REDUCTIONS[node.op]!;
  const [dims, kept] = [list(node, "dims"), strides(node.shape)];
  const to = x!.shape.map((_, axis) => (dims.includes(axis) ? 0 : kept[axis - dims.filter((d) => d < axis).length]!));
  out.fill(start);
  walk(x!.shape, [to], [0], (i, [at]) => { out[at!] = join(out[at!]!, x!.data[i]!); });
}

function elementwise(operands: Operand[], node: GraphNode, out: Float64Array): void {
  const f = ELEMENTWISE[node.op] ?? ((a: number) => a); // a cast to a float changes nothing here
  const [a, b, c] = operands.map((operand) => operand.data) as [Values, Values?, Values?];
  const steps = operands.map((operand) => broadcast(operand.shape, node.shape));
  const visit: Visit = c ? (i, at) => { out[i] = f(a[at[0]!]!, b![at[1]!]!, c[at[2]!]!); } : b ? (i, at) => { out[i] = f(a[at[0]!]!, b[at[1]!]!); } : (i, at) => { out[i] = f(a[at[0]!]!); };
  walk(node.shape, steps, steps.map(() => 0), visit);
}

/** Y[..., i, j] = sum over k of a[..., i, k] b[..., k, j]. */
function product(operands: Operand[], { shape }: GraphNode, out: Float64Array): void {
  const [a, b] = operands as [Operand, Operand];
  const [m, n, k] = [shape.at(-2)!, shape.at(-1)!, a.shape.at(-1)!];
  const batch = shape.slice(0, -2);
  const steps = [a, b].map((operand) => broadcast(operand.shape.slice(0, -2), batch).map((step) => step * operand.shape.at(-1)! * operand.shape.at(-2)!));
  walk(batch, steps, [0, 0], (one, [at, bt]) => {
    for (let i = 0; i < m; i++) for (let l = 0; l < k; l++) {
      const left = a.data[at! + i * k + l]!;
      for (let j = 0; j < n; j++) out[(one * m + i) * n + j]! += left * b.data[bt! + l * n + j]!;
    }
  });
}

/** Y = x[index, ...]: the indices address the first axes together, the others travel along. */
function take([x, ...indices]: Operand[], { shape }: GraphNode, out: Float64Array): void {
  const rest = x!.shape.slice(indices.length);
  const [own, width] = [strides(x!.shape), size(rest)];
  const places = shape.slice(0, shape.length - rest.length);
  const steps = indices.map((index) => broadcast(index.shape, places));
  walk(places, steps, indices.map(() => 0), (i, at) => {
    const from = at.reduce((sum, place, axis) => {
      const index = indices[axis]!.data[place]!;
      return sum + own[axis]! * (index < 0 ? index + x!.shape[axis]! : index);
    }, 0);
    for (let j = 0; j < width; j++) out[i * width + j] = x!.data[from + j]!;
  });
}

// -- places in arrays ------------------------------------------------------------------------------------

function size(shape: number[]): number {
  return shape.reduce((a, b) => a * b, 1);
}

function dot(a: number[], b: number[]): number {
  return a.reduce((sum, value, i) => sum + value * b[i]!, 0);
}

/** How far apart neighbours along each axis are. */
function strides(shape: number[]): number[] {
  return shape.map((_, axis) => size(shape.slice(axis + 1)));
}

/** The strides of an array that is repeated to a larger shape: 0 along what is repeated. */
function broadcast(from: number[], to: number[]): number[] {
  const own = strides(from);
  const missing = to.length - from.length;
  return to.map((_, axis) => (axis < missing || from[axis - missing] === 1 ? 0 : own[axis - missing]!));
}

type Visit = (i: number, at: number[]) => void;

/** Visits every place of a shape in order, with the places it stands for in arrays of other strides. */
function walk(shape: number[], steps: number[][], offsets: number[], visit: Visit): void {
  const count = size(shape);
  const index = new Array<number>(shape.length).fill(0);
  const at = [...offsets];
  for (let i = 0; i < count; i++) {
    visit(i, at);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      steps.forEach((step, operand) => { at[operand]! += step[axis]!; });
      if (++index[axis]! < shape[axis]!) break;
      steps.forEach((step, operand) => { at[operand]! -= step[axis]! * shape[axis]!; });
      index[axis] = 0;
    }
  }
}
