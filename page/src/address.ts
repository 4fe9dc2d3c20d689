// What is looked at, as the end of the page's address: a link to it, and the browser's way back.

import type { Source } from "./document";
import { ravel, unravel } from "./places";
import type { Phase, Selection, State, View } from "./state";

export const VIEWS: [View, string][] = [["network", "Network"], ["training", "Training"], ["data", "Data"], ["whatif", "What if"], ["diagnosis", "Diagnosis"]];

type Place = Pick<State, "view" | "frame" | "selection" | "open">;

/** `#view=training&step=40&weight=0.weight[3, 7]`, or `node=12` or `module=2` with `pass=backward`, and `open=1,4`. */
export function written({ document }: Source, { view, frame, selection, open }: Place): string {
  const parts = new URLSearchParams({ view, step: String(document.frames[frame]!.step) });
  if (selection?.kind === "weight") {
    const { name, shape } = document.parameters[selection.parameter]!;
    parts.set("weight", `${name}[${unravel(selection.index, shape).join(", ")}]`);
  } else if (selection) {
    parts.set(selection.kind, String(selection.kind === "node" ? selection.node : selection.module));
    parts.set("pass", selection.phase);
    if (selection.kind === "node" && selection.element) parts.set("element", String(selection.element));
  }
  if (open.size) parts.set("open", [...open].join(","));
  return `#${parts}`;
}

/** What an address asks for, as far as this document has it; the rest is left as it is. */
export function read(source: Source, hash: string): Partial<Place> {
  const parts = new URLSearchParams(hash.replace(/^#/, ""));
  const { document } = source;
  const found: Partial<Place> = {};
  const view = VIEWS.find(([name]) => name === parts.get("view"));
  if (view) found.view = view[0];
  const step = whole(parts.get("step"), Infinity);
  if (step !== null) found.frame = Math.max(0, document.frames.findLastIndex((frame) => frame.step <= step));
  const selection = chosen(source, parts);
  if (selection) found.selection = selection;
  const modules = (parts.get("open") ?? "").split(",").map((text) => whole(text, document.graph.modules.length)).filter((module) => module !== null);
  if (modules.length) found.open = new Set(modules);
  return found;
}

function chosen({ document }: Source, parts: URLSearchParams): Selection | null {
  const phase: Phase = parts.get("pass") === "backward" ? "backward" : "forward";
  const weight = /^(.*)\[([^[\]]*)\]$/s.exec(parts.get("weight") ?? "");
  if (weight) {
    const parameter = document.parameters.findIndex(({ name }) => name === weight[1]);
    const shape = document.parameters[parameter]?.shape ?? [];
    const places = weight[2]!.split(",").filter((text) => text.trim()).map((text, axis) => whole(text, shape[axis] ?? 0));
    if (parameter < 0 || places.length !== shape.length || places.includes(null)) return null;
    return { kind: "weight", parameter, index: ravel(places as number[], shape) };
  }
  const module = whole(parts.get("module"), document.graph.modules.length);
  if (module !== null) return { kind: "module", module, phase };
  const node = whole(parts.get("node"), document.graph.nodes.length);
  if (node === null) return null;
  const size = document.graph.nodes[node]!.shape.reduce((a, b) => a * b, 1);
  return { kind: "node", node, phase, element: whole(parts.get("element"), size) ?? 0 };
}

/** A whole number below `limit`; null for any other text. */
function whole(text: string | null, limit: number): number | null {
  const clean = text?.trim() ?? "";
  return /^\d{1,15}$/.test(clean) && Number(clean) < limit ? Number(clean) : null;
}
