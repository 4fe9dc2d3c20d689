// The document that Python writes (chainrule/explain/report/document.py says what each field means).

export const FORMAT = "chainrule.report/1";

export interface Ref {
  at: number;
  shape: number[];
  type: "f32" | "f64" | "i32" | "u8" | "q8";
  lo?: number;
  hi?: number;
}

/** A formula as Python sends it: a text, or [tag, attributes?, ...children]. */
export type MathTree = string | [string, ...unknown[]];

export interface Operand {
  name: string;
  node: number;
  value: number | boolean | null;
}

export interface Rule {
  argument: number;
  formula: number;
  reads: string[];
}

export interface GraphNode {
  op: string;
  class: string;
  kind: "input" | "parameter" | "constant" | "op" | "loss";
  label: string;
  module: number;
  inputs: number[];
  shape: number[];
  dtype: string;
  column: number;
  lane: number;
  line: string;
  flows: boolean;
  twin: boolean;
  rows: boolean;
  operands?: Operand[];
  forward?: number | null;
  backward?: Rule[];
  saved?: number[];
  params?: Record<string, number | number[] | boolean>;
}

export interface Module {
  path: string;
  kind: string;
  parent: number | null;
}

export interface Parameter {
  name: string;
  node: number;
  shape: number[];
  tile: [number, number] | null;
  contraction: { x: number; out: number; transposed: boolean } | null;
  formula?: MathTree | null;
}

export interface Histogram {
  lo: number;
  hi: number;
  counts: number[];
  not_finite: number;
}

export interface ParameterFrame {
  norm: number;
  grad_norm: number;
  update_norm: number;
  ratio: number | null;
  mean: number;
  std: number;
  histograms: { value: Histogram; gradient: Histogram; update: Histogram };
  value?: Ref;
  grad?: Ref;
  update?: Ref;
  value_picture?: Ref;
  grad_picture?: Ref;
}

export interface Frame {
  step: number;
  epoch: number;
  loss: number;
  lr: number;
  rows: number[];
  probe: number;
  whole: boolean;
  values: Record<string, Ref>;
  grads: Record<string, Ref>;
  batch?: Record<string, Ref>;
  batch_grads?: Record<string, Ref>;
  given?: Record<string, Ref>;
  params: ParameterFrame[];
  predictions?: Ref;
  confidence?: Ref;
}

export interface Curve {
  name: string;
  unit: string;
  x: "step" | "epoch";
  at: number[];
  series: { name: string; values: (number | null)[] }[];
}

/** What one output means, as the loss says (chainrule/nn/meaning.py). */
export type Meaning = "logits" | "probabilities" | "log_probabilities" | "binary_logits" | "binary_probabilities" | "values";

export interface Data {
  classes: string[];
  image: [number, number] | null;
  labels: Ref;
  images: Ref | null;
  shown: number;
}

/** Scores of a replay, on the rows trained on and on rows held out. */
export type Scores = Record<string, Record<string, number | null>>;

export interface Remedy {
  remedy: string;
  control: boolean;
  gain: number;
  least: number;
  replays: number;
  before: Scores;
  after: Scores;
  curves?: { at: number[]; before: (number | null)[]; after: (number | null)[] } | null;
  cause?: string;
}

export interface Finding {
  title: string;
  name: string;
  where: string;
  step: number;
  evidence: string;
  why: string;
  change: string;
  remedy: Remedy;
  alternatives: Remedy[];
}

export interface Diagnosis {
  verdict: "found" | "unknown" | "nothing";
  bad: string;
  tried: Remedy[];
  summary: string;
  notes: string[];
  checked: string[];
  suspected: string[];
  replays: number;
  exact: boolean;
  findings: Finding[];
}

export interface Verdict {
  section: string;
  subject: string;
  state: "holds" | "fails" | "open";
  detail: string;
}

export interface Checks {
  ok: boolean;
  sections: Record<string, string>;
  verdicts: Verdict[];
}

/** What one element that reads the weight passes back: product = local * upstream. */
export interface Term {
  name: string;
  op: string;
  formula: string;
  local: number;
  upstream: number;
  product: number;
}

export interface Derivation {
  formula: MathTree;
  numbers: MathTree;
  derivation: {
    name: string;
    gradient: number;
    bits: string;
    count: number;
    terms: Term[];
    others: number;
    adds_up: boolean;
    order: string | null;
    rounding: number | null;
    paths: { product: number; steps: Term[] }[];
    other_paths: number | null;
  };
  ledger: {
    formula: MathTree;
    before: number;
    after: number;
    move: number;
    lr: number;
    lr0: number;
    parts: { name: string; amount: number; how: string }[];
    rounding: number;
    samples?: { row: number; gradient: number; amount: number }[];
  };
}

/** One number that is another: of a weight, of a training row, its label, or the learning rate. */
export type Change =
  | { kind: "weight"; parameter: string; index: string; value: number }
  | { kind: "input"; row: number; index: number; value: number }
  | { kind: "label"; row: number; value: number }
  | { kind: "rate"; value: number };

interface Losses {
  losses: number[];
  gradient: number | null;
}

/** What the engine made of a change at a step, beside what followed without it. */
export interface Consequence {
  step: number;
  change: Change;
  words: string;
  original: Losses;
  changed: Losses;
}

export interface Document {
  format: string;
  title: string;
  version: string;
  about: [string, string][];
  meaning: Meaning | null;
  graph: { nodes: GraphNode[]; modules: Module[]; formulas: { tree: MathTree; reads: string[] }[]; loss: number; output: number | null };
  parameters: Parameter[];
  frames: Frame[];
  curves: Curve[];
  data: Data | null;
  derivations: Record<string, Derivation>;
  what_if: Consequence[];
  diagnosis: Diagnosis | null;
  checks: Checks | null;
  live: { running: boolean; version: number; first: number; end: number } | null;
}

/** An array of the document, decoded. `exact` is false for pictures, whose numbers are never printed. */
export interface Tensor {
  shape: number[];
  data: ArrayLike<number>;
  exact: boolean;
}

const BYTES = { f32: 4, f64: 8, i32: 4, u8: 1, q8: 1 } as const;

/** The document together with its arrays. */
export class Source {
  private readonly known = new WeakMap<Ref, Tensor>();

  constructor(
    readonly document: Document,
    private readonly bytes: Uint8Array,
  ) {}

  tensor(ref: Ref | null | undefined): Tensor | null {
    if (!ref) return null;
    const known = this.known.get(ref);
    if (known) return known;
    const made = { shape: ref.shape, data: this.decode(ref), exact: ref.type !== "q8" };
    this.known.set(ref, made);
    return made;
  }

  /** The planes of bytes (all first bytes, all second bytes, ...) put together again. */
  private decode(ref: Ref): ArrayLike<number> {
    const count = ref.shape.reduce((a, b) => a * b, 1);
    const width = BYTES[ref.type];
    const joined = new Uint8Array(count * width);
    for (let plane = 0; plane < width; plane++) {
      const from = ref.at + plane * count;
      for (let i = 0; i < count; i++) joined[i * width + plane] = this.bytes[from + i] ?? 0;
    }
    switch (ref.type) {
      case "f32":
        return new Float32Array(joined.buffer);
      case "f64":
        return new Float64Array(joined.buffer);
      case "i32":
        return new Int32Array(joined.buffer);
      case "u8":
        return joined;
      case "q8": {
        const { lo = 0, hi = 0 } = ref;
        return Float32Array.from(joined, (shade) => lo + ((hi - lo) * shade) / 255);
      }
    }
  }
}

/** A number of the document: JSON has no NaN and no infinities, so these three come as text. */
export function num(value: number | string | boolean | null | undefined): number {
  return value === null || value === undefined ? NaN : Number(value);
}

async function inflate(text: string): Promise<Uint8Array> {
  const raw = Uint8Array.from(atob(text.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Reads what stands in the page itself. */
export async function embedded(): Promise<Source> {
  const text = (id: string): string => document.getElementById(id)?.textContent ?? "";
  return unpack(text("document"), text("tensors"));
}

export async function unpack(documentText: string, tensorsText: string): Promise<Source> {
  const [json, bytes] = await Promise.all([inflate(documentText), inflate(tensorsText)]);
  const read = JSON.parse(new TextDecoder().decode(json)) as Document;
  if (read.format !== FORMAT) {
    throw new Error(`This page reads ${FORMAT}, but the document is ${read.format}. Write the report again.`);
  }
  return new Source(read, bytes);
}
