// What the graph looks like now: boxes, edges and module frames, from Python's columns and lanes.
// Closed modules are one box each; columns that then hold nothing disappear.

import type { Document } from "./document";
import type { Phase } from "./state";

export const BOX = { width: 128, height: 50 };
const PITCH = { column: 160, lane: 74 };
const MIRROR = 58; // from the mirror line to the middle of the nearest box

export interface Box {
  key: string;
  node: number | null;
  module: number | null; // a closed module
  phase: Phase;
  x: number; // the middle
  y: number;
  label: string;
  detail: string;
  kind: string;
}

export interface Edge {
  key: string;
  kind: Phase | "saved";
  from: Box;
  to: Box;
}

export interface Group {
  module: number;
  depth: number;
  x: number;
  y: number;
  width: number;
  height: number;
  label: string;
}

export interface Scene {
  boxes: Box[];
  edges: Edge[];
  groups: Group[];
  bounds: { x: number; y: number; width: number; height: number };
  boxOf: (node: number, phase: Phase) => Box | undefined;
}

/** The outermost closed module around a node, or null where the node itself is shown. */
export function closedAround(document: Document, module: number, open: ReadonlySet<number>): number | null {
  let found: number | null = null;
  for (let at: number | null = module; at !== null; at = document.graph.modules[at]!.parent) {
    if (document.graph.modules[at]!.parent === null && document.graph.modules[at]!.path === "" && at === 0) break;
    if (!open.has(at)) found = at;
  }
  return found;
}

export function moduleName(document: Document, module: number): string {
  const { path, kind } = document.graph.modules[module]!;
  return path ? `${path} ${kind}`.trim() : kind;
}

export function sizes(shape: number[]): string {
  return shape.length ? shape.join("×") : "scalar";
}

export function build(document: Document, open: ReadonlySet<number>): Scene {
  const { nodes } = document.graph;
  const stand = nodes.map((node) => closedAround(document, node.module, open));
  const places = new Map<string, { column: number; lane: number; members: number[] }>();
  const keys = nodes.map((_, i) => (stand[i] === null ? `n${i}` : `m${stand[i]}`));
  nodes.forEach((node, i) => {
    const place = places.get(keys[i]!);
    if (!place) places.set(keys[i]!, { column: node.column, lane: node.lane, members: [i] });
    else {
      place.members.push(i);
      const first = nodes[place.members[0]!]!;
      const better = node.flows && (!first.flows || node.column < place.column);
      if (better) {
        place.column = node.column;
        place.lane = node.lane;
        place.members.unshift(place.members.pop()!);
      }
    }
  });
  const columns = new Map([...new Set([...places.values()].map((p) => p.column))].sort((a, b) => a - b).map((c, i) => [c, i]));
  const boxes = new Map<string, Box>();
  for (const [key, place] of places) {
    for (const phase of ["forward", "backward"] as const) {
      const module = key.startsWith("m") ? Number(key.slice(1)) : null;
      const node = module === null ? place.members[0]! : null;
      const twin = place.members.some((i) => nodes[i]!.twin);
      if (phase === "backward" && !twin) continue;
      const side = phase === "forward" ? -1 : 1;
      boxes.set(`${phase} ${key}`, {
        key: `${phase} ${key}`, node, module, phase,
        x: columns.get(place.column)! * PITCH.column,
        y: side * (MIRROR + place.lane * PITCH.lane),
        ...words(document, node, module, place.members, phase),
      });
    }
  }
  const boxOf = (node: number, phase: Phase) => boxes.get(`${phase} ${keys[node]}`);
  // In the order of one pass: the keyboard and a screen reader meet them so.
  const rank = (b: Box) => (b.phase === "forward" ? b.x : 1e9 - b.x);
  const list = [...boxes.values()].sort((a, b) => rank(a) - rank(b) || Math.abs(a.y) - Math.abs(b.y));
  const groups = frames(document, open, keys, boxes);
  return { boxes: list, edges: edges(document, boxOf), groups, bounds: bounds(list, groups), boxOf };
}

function words(document: Document, node: number | null, module: number | null, members: number[], phase: Phase) {
  const { nodes } = document.graph;
  if (module !== null) {
    const last = nodes[members[members.length - 1]!]!;
    const flowing = members.filter((i) => nodes[i]!.flows);
    const shown = flowing.length ? nodes[Math.max(...flowing)]! : last;
    return { label: moduleName(document, module), detail: sizes(shown.shape), kind: "module" };
  }
  const at = nodes[node!]!;
  const label = phase === "forward" ? at.label : `∂ ${at.label}`;
  return { label, detail: sizes(at.shape), kind: at.kind };
}

function edges(document: Document, boxOf: Scene["boxOf"]): Edge[] {
  const found = new Map<string, Edge>();
  const add = (kind: Edge["kind"], from: Box | undefined, to: Box | undefined) => {
    if (!from || !to || from.key === to.key) return;
    const key = `${kind} ${from.key} ${to.key}`;
    if (!found.has(key)) found.set(key, { key, kind, from, to });
  };
  document.graph.nodes.forEach((node, i) => {
    for (const source of node.inputs) {
      add("forward", boxOf(source, "forward"), boxOf(i, "forward"));
      if (document.graph.nodes[source]!.twin) add("backward", boxOf(i, "backward"), boxOf(source, "backward"));
    }
    for (const saved of node.saved ?? []) add("saved", boxOf(saved, "forward"), boxOf(i, "backward"));
  });
  return [...found.values()];
}

/** A frame around what each open module holds. */
function frames(document: Document, open: ReadonlySet<number>, keys: string[], boxes: Map<string, Box>): Group[] {
  const inside = new Map<number, Set<string>>();
  document.graph.nodes.forEach((node, i) => {
    for (let at: number | null = node.module; at !== null; at = document.graph.modules[at]!.parent) {
      if (at === 0 || !open.has(at) || closedAround(document, at, open) !== null) continue;
      (inside.get(at) ?? inside.set(at, new Set()).get(at)!).add(keys[i]!);
    }
  });
  const depthOf = (module: number): number => {
    const { parent } = document.graph.modules[module]!;
    return parent === null ? 0 : depthOf(parent) + 1;
  };
  const most = Math.max(0, ...[...inside.keys()].map(depthOf));
  return [...inside].map(([module, members]) => {
    const held = [...members].flatMap((key) => [boxes.get(`forward ${key}`), boxes.get(`backward ${key}`)]).filter((b) => b !== undefined);
    const depth = depthOf(module);
    const room = 8 + 7 * (most - depth);
    const [left, right] = [Math.min(...held.map((b) => b.x)) - BOX.width / 2 - room, Math.max(...held.map((b) => b.x)) + BOX.width / 2 + room];
    const top = Math.min(...held.map((b) => b.y)) - BOX.height / 2 - room - 18;
    const bottom = Math.max(...held.map((b) => b.y)) + BOX.height / 2 + room;
    return { module, depth, x: left, y: top, width: right - left, height: bottom - top, label: moduleName(document, module) };
  });
}

function bounds(boxes: Box[], groups: Group[]): Scene["bounds"] {
  const left = Math.min(...boxes.map((b) => b.x - BOX.width / 2), ...groups.map((g) => g.x));
  const right = Math.max(...boxes.map((b) => b.x + BOX.width / 2), ...groups.map((g) => g.x + g.width));
  const top = Math.min(...boxes.map((b) => b.y - BOX.height / 2), ...groups.map((g) => g.y));
  const bottom = Math.max(...boxes.map((b) => b.y + BOX.height / 2), ...groups.map((g) => g.y + g.height));
  return { x: left, y: top, width: right - left, height: bottom - top };
}

/** The path of an edge: forward ones run right, backward ones left, saved values fall straight down. */
export function route({ kind, from, to }: Edge): string {
  if (kind === "saved") {
    const [y1, y2] = [from.y + BOX.height / 2, to.y - BOX.height / 2];
    return from.x === to.x ? `M${from.x} ${y1}V${y2}` : `M${from.x} ${y1}C${from.x} ${y1 + 40} ${to.x} ${y2 - 40} ${to.x} ${y2}`;
  }
  const side = kind === "forward" ? 1 : -1;
  const [x1, x2] = [from.x + (side * BOX.width) / 2, to.x - (side * BOX.width) / 2];
  const bend = Math.max(16, Math.abs(x2 - x1) / 2);
  return `M${x1} ${from.y}C${x1 + side * bend} ${from.y} ${x2 - side * bend} ${to.y} ${x2} ${to.y}`;
}

/** The nearest box in a direction, for the arrow keys. */
export function neighbour(boxes: Box[], from: Box, key: string): Box | null {
  const [dx, dy] = ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] } as Record<string, [number, number]>)[key] ?? [0, 0];
  let best: Box | null = null;
  let least = Infinity;
  for (const box of boxes) {
    const along = (box.x - from.x) * dx + (box.y - from.y) * dy;
    const across = Math.abs((box.x - from.x) * dy) + Math.abs((box.y - from.y) * dx);
    if (along > 1 && along + 2.5 * across < least) [best, least] = [box, along + 2.5 * across];
  }
  return best;
}

/** One pass, op by op: all forward, then all backward in reverse. */
export interface Beat {
  node: number;
  phase: Phase;
}

export function pass(document: Document): Beat[] {
  const { nodes } = document.graph;
  const forward = nodes.flatMap((node, i): Beat[] => (node.inputs.length ? [{ node: i, phase: "forward" }] : []));
  const backward = nodes.flatMap((node, i): Beat[] => (node.twin && node.backward?.length ? [{ node: i, phase: "backward" }] : []));
  return [...forward, ...backward.reverse()];
}
