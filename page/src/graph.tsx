// The mirrored graph on the screen: zoom, pan, focus; SVG for up to 2,000 nodes, a canvas above.

import { useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import { useWidth } from "./hooks";
import { thumbnail, type Thumbnail } from "./pictures";
import { BOX, neighbour, route, type Beat, type Box, type Edge, type Group, type Scene } from "./scene";
import type { Document } from "./document";
import { useStore, type Selection } from "./state";
import { paint } from "./canvas";

export const SVG_LIMIT = 2000; // boxes
const THUMBNAILS = 400;

export interface View {
  x: number;
  y: number;
  k: number;
}

interface GraphProps {
  scene: Scene;
  order: Map<string, number>; // the place of every beat in the pass, by "phase node"
  toggle(module: number): void;
}

export function Graph({ scene, order, toggle }: GraphProps) {
  const { source, state, set, say, frame, scheme } = useStore();
  const [box, width] = useWidth<HTMLDivElement>();
  const height = Math.round(Math.max(300, Math.min(500, scene.bounds.height * 0.85 + 104)));
  const [view, setView] = useState<View | null>(null);
  const shown = view ?? fit(scene, width, height);
  const [focused, setFocused] = useState<string | null>(null);
  const drag = useRef<Map<number, { x: number; y: number }>>(new Map());
  const moved = useRef(false);

  const select = (target: Box) => {
    set({ selection: selectionOf(target) });
    say(describe(target));
  };
  const reveal = (target: Box) => setView(centred(shown, target, scene, width, height));
  const focusOn = (target: Box) => {
    setFocused(target.key);
    reveal(target);
    if (scene.boxes.length > SVG_LIMIT) say(describe(target));
    else requestAnimationFrame(() => box.current?.querySelector<SVGGElement>(`[data-key="${CSS.escape(target.key)}"]`)?.focus());
  };
  // Opening or closing a module takes away the box that had the focus: it goes on in what came in its place. A step through
  // the pass (n and p) opens and closes modules, too.
  const turned = useRef<Box | null>(null);
  const turn = (target: Box) => {
    const module = target.module ?? moduleOf(target);
    if (!module) return;
    turned.current = target;
    toggle(module);
  };
  const moduleOf = (target: Box) => (target.node === null ? null : source.document.graph.nodes[target.node]!.module);
  useLayoutEffect(() => {
    const before = turned.current;
    turned.current = null;
    if (before && !scene.boxes.some((b) => b.key === before.key)) focusOn(after(before, scene, source.document));
  }, [scene, state.cursor]);
  const current = scene.boxes.find((b) => b.key === focused) ?? scene.boxes.find((b) => isSelected(b, state.selection)) ?? scene.boxes[0]!;

  const onKey = (event: KeyboardEvent) => {
    if (event.key.startsWith("Arrow")) {
      const next = neighbour(scene.boxes, current, event.key);
      if (next) focusOn(next);
    } else if (event.key === "Enter" || event.key === " ") select(current);
    else if (event.key === "o") turn(current);
    else if (event.key === "n" || event.key === "p") return void (turned.current = current);
    else if (event.key === "+" || event.key === "=") setView(zoomed(shown, 1.25, width / 2, height / 2));
    else if (event.key === "-") setView(zoomed(shown, 0.8, width / 2, height / 2));
    else if (event.key === "0") setView(null);
    else return;
    event.preventDefault();
  };
  const onPointerMove = (event: PointerEvent) => {
    const before = drag.current.get(event.pointerId);
    if (!before) return;
    const now = { x: event.clientX, y: event.clientY };
    const other = [...drag.current].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const [was, is] = [Math.hypot(before.x - other.x, before.y - other.y), Math.hypot(now.x - other.x, now.y - other.y)];
      const at = box.current!.getBoundingClientRect();
      if (was > 0) setView(zoomed(shown, is / was, (now.x + other.x) / 2 - at.left, (now.y + other.y) / 2 - at.top));
    } else if (moved.current || Math.hypot(now.x - before.x, now.y - before.y) > 4) {
      moved.current = true;
      setView({ ...shown, x: shown.x + now.x - before.x, y: shown.y + now.y - before.y });
    } else return;
    drag.current.set(event.pointerId, now);
  };
  const lift = (event: PointerEvent) => {
    drag.current.delete(event.pointerId);
    if (!drag.current.size) setTimeout(() => (moved.current = false));
  };
  const onWheel = (event: WheelEvent) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const at = box.current!.getBoundingClientRect();
    setView(zoomed(shown, Math.exp(-event.deltaY / 300), event.clientX - at.left, event.clientY - at.top));
  };
  useLayoutEffect(() => {
    const target = box.current;
    target?.addEventListener("wheel", onWheel, { passive: false });
    return () => target?.removeEventListener("wheel", onWheel);
  });
  const beat = state.cursor;
  useLayoutEffect(() => {
    const target = scene.boxes.find((b) => isSelected(b, state.selection));
    if (target && beat !== null && width) reveal(target);
  }, [beat]);
  const large = scene.boxes.length > SVG_LIMIT;
  const pictures = useMemo(() => {
    const found = new Map<string, Thumbnail | null>();
    if (scene.boxes.length > THUMBNAILS) return found;
    for (const b of scene.boxes) found.set(b.key, pictureOf(b));
    return found;
  }, [scene, frame, scheme]);

  function pictureOf(b: Box): Thumbnail | null {
    const node = b.node ?? outputOf(b);
    if (node === null) return null;
    const array = source.tensor((b.phase === "forward" ? frame.values : frame.grads)[String(node)]);
    const image = source.document.data?.image ?? null;
    return array ? thumbnail(array.data, b.kind === "input" ? image : null, scheme, b.phase === "forward") : null;
  }
  function outputOf(b: Box): number | null {
    const { nodes } = source.document.graph;
    for (let i = nodes.length - 1; i >= 0; i--) if (nodes[i]!.flows && scene.boxOf(i, b.phase)?.key === b.key) return i;
    return null;
  }
  const places = useMemo(() => spans(scene, order), [scene, order]);
  const status = (b: Box) => (beat === null ? "done" : statusOf(b, places.get(b.key), beat, order.size - 1));
  const common = { scene, view: shown, width, height, focused: current.key, status, selection: state.selection };
  return (
    <div class="graph" ref={box} onKeyDown={onKey} onPointerMove={onPointerMove} onPointerUp={lift} onPointerCancel={lift} onPointerLeave={lift}
      onPointerDown={(event) => void drag.current.set(event.pointerId, { x: event.clientX, y: event.clientY })} style={{ height: `${height}px` }}>
      {!width ? null : large ? (
        <Painted {...common} select={(b) => !moved.current && (setFocused(b.key), select(b))} />
      ) : (
        <Drawn {...common} pictures={pictures} toggle={toggle} focus={setFocused} select={(b) => !moved.current && (setFocused(b.key), select(b))} />
      )}
      <div class="zoom" role="group" aria-label="Zoom">
        <button type="button" aria-label="Zoom in" onClick={() => setView(zoomed(shown, 1.25, width / 2, height / 2))}>+</button>
        <button type="button" aria-label="Zoom out" onClick={() => setView(zoomed(shown, 0.8, width / 2, height / 2))}>−</button>
        <button type="button" onClick={() => setView(whole(scene, width, height))}>Fit</button>
      </div>
    </div>
  );
}

interface Common {
  scene: Scene;
  view: View;
  width: number;
  height: number;
  focused: string;
  selection: Selection | null;
  status(box: Box): string;
  select(box: Box): void;
}

function Drawn(props: Common & { pictures: Map<string, Thumbnail | null>; toggle(module: number): void; focus(key: string): void }) {
  const { scene, view, width, height, focused, status, select, pictures, toggle, focus, selection } = props;
  return (
    <svg width={width} height={height} role="group" aria-label="The network: forward pass above, backward pass below">
      <defs>
        {["forward", "backward", "saved"].map((kind) => (
          <marker key={kind} id={`arrow-${kind}`} viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse">
            <path d="M0 0.5L8 4L0 7.5z" class={`tip ${kind}`} />
          </marker>
        ))}
      </defs>
      <g transform={`translate(${view.x} ${view.y}) scale(${view.k})`}>
        {[...scene.groups].sort((a, b) => a.depth - b.depth).map((group) => <Frame key={group.module} group={group} toggle={toggle} />)}
        <line class="mirror" x1={scene.bounds.x - 200} x2={scene.bounds.x + scene.bounds.width + 200} y1="0" y2="0" />
        {scene.edges.map((edge) => <Arrow key={edge.key} edge={edge} status={status} />)}
        {scene.boxes.map((b) => (
          <Block key={b.key} box={b} status={status(b)} picture={pictures.get(b.key) ?? null} selected={isSelected(b, selection)}
            focused={b.key === focused} select={select} toggle={toggle} focus={focus} />
        ))}
      </g>
      <text class="band" x="12" y="20" aria-hidden="true">forward →</text>
      <text class="band" x="12" y={height - 12} aria-hidden="true">← backward</text>
    </svg>
  );
}

function Arrow({ edge, status }: { edge: Edge; status(box: Box): string }) {
  const faint = status(edge.to) === "pending" ? " pending" : "";
  return <path class={`edge ${edge.kind}${faint}`} d={route(edge)} marker-end={edge.kind === "saved" ? undefined : `url(#arrow-${edge.kind})`} />;
}

function Frame({ group, toggle }: { group: Group; toggle(module: number): void }) {
  return (
    <g class="frame">
      <rect x={group.x} y={group.y} width={group.width} height={group.height} rx="10" />
      <g class="frame-title" role="button" {...focusable(0)} aria-label={`Close ${group.label}`} onClick={() => toggle(group.module)}
        onKeyDown={(event) => (event.key === "Enter" || event.key === " ") && (event.preventDefault(), event.stopPropagation(), toggle(group.module))}>
        <rect x={group.x + 4} y={group.y + 3} width={Math.min(group.width - 8, 32 + group.label.length * 6.6)} height="20" rx="5" />
        <path d={`M${group.x + 10} ${group.y + 13}h8`} />
        <text x={group.x + 23} y={group.y + 17}>{group.label}</text>
      </g>
    </g>
  );
}

interface BlockProps {
  box: Box;
  status: string;
  picture: Thumbnail | null;
  selected: boolean;
  focused: boolean;
  select(box: Box): void;
  toggle(module: number): void;
  focus(key: string): void;
}

function Block({ box, status, picture, selected, focused, select, toggle, focus }: BlockProps) {
  const [x, y] = [box.x - BOX.width / 2, box.y - BOX.height / 2];
  const module = box.module;
  return (
    <g class={`box ${box.kind} ${box.phase} ${status}${selected ? " selected" : ""}`} data-key={box.key} role="button" {...focusable(focused ? 0 : -1)}
      aria-pressed={selected} aria-label={describe(box)} onClick={() => select(box)} onDblClick={() => module !== null && toggle(module)} onFocus={() => focus(box.key)}>
      <rect class="ring" x={x - 3} y={y - 3} width={BOX.width + 6} height={BOX.height + 6} rx="10" />
      <rect class="face" x={x} y={y} width={BOX.width} height={BOX.height} rx="7" />
      <Label text={box.label} x={x + 8} y={y + 16} width={BOX.width - (picture?.square ? 56 : module === null ? 14 : 32)} />
      {" "}
      <text class="detail" x={x + 8} y={y + 29}>{box.detail}</text>
      {picture && !picture.square && <image href={picture.url} x={x + 8} y={y + 35} width={BOX.width - 16} height="8" preserveAspectRatio="none" class="pixels" />}
      {picture?.square && <image href={picture.url} x={x + BOX.width - 44} y={y + 6} width="38" height="38" class="pixels" />}
      {module !== null && (
        <g class="opener" aria-hidden="true" onClick={(event) => (event.stopPropagation(), toggle(module))}>
          <rect x={x + BOX.width - 21} y={y + 4} width="17" height="17" rx="4" />
          <path d={`M${x + BOX.width - 17} ${y + 12.5}h9m-4.5 -4.5v9`} />
        </g>
      )}
    </g>
  );
}

/** The name of a box; the browser cuts it where it is too long, and the element keeps all of it. */
function Label({ text, x, y, width }: { text: string; x: number; y: number; width: number }) {
  if (text.length * 7.4 < width) return <text class="label" x={x} y={y}>{text}</text>;
  return <foreignObject x={x} y={y - 14} width={width} height="18"><div class="label cut">{text}</div></foreignObject>;
}

function Painted({ scene, view, width, height, focused, status, select, selection }: Common) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const { scheme } = useStore();
  useLayoutEffect(() => {
    if (canvas.current) paint(canvas.current, scene, view, width, height, (b) => (isSelected(b, selection) ? "selected" : b.key === focused ? "focused" : status(b)));
  }, [scene, view, width, height, focused, selection, status, scheme]);
  const click = (event: MouseEvent) => {
    const at = canvas.current!.getBoundingClientRect();
    const [x, y] = [(event.clientX - at.left - view.x) / view.k, (event.clientY - at.top - view.y) / view.k];
    const hit = scene.boxes.find((b) => Math.abs(b.x - x) <= BOX.width / 2 && Math.abs(b.y - y) <= BOX.height / 2);
    if (hit) select(hit);
  };
  return <canvas ref={canvas} tabIndex={0} role="application" aria-label="The network; arrow keys move from op to op, Enter shows one" onClick={click} style={{ width: `${width}px`, height: `${height}px` }} />;
}

/** SVG keeps the case of its attributes, and only `tabindex` makes an element focusable. */
function focusable(place: number): object {
  return { tabindex: place };
}

// -- helpers -----------------------------------------------------------------------------------

/** What stands for a box once its module was opened or closed: the module's first op, or the module. */
function after(before: Box, scene: Scene, document: Document): Box {
  const { nodes, modules } = document.graph;
  const inside = (at: number | null): boolean => at !== null && (at === before.module || inside(modules[at]!.parent));
  const same = scene.boxes.filter((box) => box.phase === before.phase);
  const stands = before.node === null ? same.find((box) => inside(box.node === null ? box.module : nodes[box.node]!.module)) : scene.boxOf(before.node, before.phase);
  return stands ?? same[0] ?? scene.boxes[0]!;
}

export function selectionOf(box: Box): Selection {
  if (box.module !== null) return { kind: "module", module: box.module, phase: box.phase };
  return { kind: "node", node: box.node!, phase: box.phase, element: 0 };
}

function isSelected(box: Box, selection: Selection | null): boolean {
  if (selection?.kind === "module") return box.module === selection.module && box.phase === selection.phase;
  return selection?.kind === "node" && box.node === selection.node && box.phase === selection.phase;
}

/** Phase and kind, then what can be read on the box, in its order. */
function describe(box: Box): string {
  const what = box.module !== null ? "module" : box.kind;
  return `${box.phase === "forward" ? "Forward" : "Backward"}: ${what} ${box.label} ${box.detail}`;
}


/** For each box the first and the last place of the pass at which something happens in it. */
function spans(scene: Scene, order: Map<string, number>): Map<string, [number, number]> {
  const found = new Map<string, [number, number]>();
  for (const [beat, place] of order) {
    const [phase, node] = beat.split(" ") as [Beat["phase"], string];
    const key = scene.boxOf(Number(node), phase)?.key;
    if (key === undefined) continue;
    const span = found.get(key);
    found.set(key, span ? [Math.min(span[0], place), Math.max(span[1], place)] : [place, place]);
  }
  return found;
}

/** What is in no span is a value that was there before the pass, or a gradient that is there after it. */
function statusOf(box: Box, span: [number, number] | undefined, cursor: number, end: number): string {
  if (!span) return box.phase === "forward" || cursor >= end ? "done" : "pending";
  return cursor > span[1] ? "done" : cursor >= span[0] ? "current" : "pending";
}

function zoomed(view: View, factor: number, x: number, y: number): View {
  const k = Math.max(0.05, Math.min(3, view.k * factor));
  const share = k / view.k;
  return { k, x: x - (x - view.x) * share, y: y - (y - view.y) * share };
}

const READABLE = 0.62; // the scale below which the words on the boxes are too small

/** All of it where that can be read; else as large as reads well, from the left end. */
function fit(scene: Scene, width: number, height: number): View {
  const all = whole(scene, width, height);
  if (all.k >= READABLE) return all;
  const k = 0.8;
  const { bounds } = scene;
  return { k, x: 20 - bounds.x * k, y: height / 2 - (bounds.y + bounds.height / 2) * k };
}

function whole({ bounds }: Scene, width: number, height: number): View {
  const k = Math.min(1.15, (width - 40) / bounds.width, (height - 56) / bounds.height);
  return { k, x: width / 2 - (bounds.x + bounds.width / 2) * k, y: height / 2 - (bounds.y + bounds.height / 2) * k };
}

function centred(view: View, box: Box, { bounds }: Scene, width: number, height: number): View {
  const [x, y] = [box.x * view.k + view.x, box.y * view.k + view.y];
  const room = { x: (BOX.width / 2) * view.k + 24, y: (BOX.height / 2) * view.k + 24 };
  const inside = x > room.x && x < width - room.x && y > room.y && y < height - room.y;
  const fits = bounds.height * view.k < height - 40; // then all of it stays in sight from top to bottom
  const y0 = fits ? height / 2 - (bounds.y + bounds.height / 2) * view.k : height / 2 - box.y * view.k;
  return inside && (!fits || Math.abs(y0 - view.y) < 1) ? view : { ...view, x: inside ? view.x : width / 2 - box.x * view.k, y: y0 };
}
