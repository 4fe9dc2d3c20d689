// Arrays as pictures: one matrix, or many small images side by side.

import { useLayoutEffect, useRef } from "preact/hooks";
import { extent, grey, inkOn, range, signed, type Rgb, type Scheme } from "./colours";
import { useWidth } from "./hooks";
import { useStore } from "./state";

const GLYPHS = 15; // cells from this size on carry their sign

interface MatrixProps {
  data: ArrayLike<number>;
  rows: number;
  columns: number;
  label: string;
  unsigned?: boolean;
  limit?: number;
  selected?: number | null;
  pick?: ((index: number) => void) | undefined;
  most?: number; // the largest size of a cell
}

function shader(data: ArrayLike<number>, unsigned: boolean, limit: number | undefined, scheme: Scheme): (v: number) => Rgb {
  if (unsigned) {
    const [lo, hi] = range(data);
    return (value) => grey(value, Math.min(0, lo), hi, scheme);
  }
  const most = limit ?? extent(data);
  return (value) => signed(value, most, scheme);
}

/** A matrix as coloured cells. Where it can be picked from, number fields beside it do the same by keyboard. */
export function Matrix(props: MatrixProps) {
  const { data, rows, columns, label, unsigned = false, limit, selected = null, pick, most = 22 } = props;
  const { scheme } = useStore();
  const [box, width] = useWidth<HTMLDivElement>();
  const canvas = useRef<HTMLCanvasElement>(null);
  const cell = Math.max(1, Math.min(most, width ? Math.floor(width / columns) : 1));
  const fit = width && columns > width ? width / columns : 1;
  useLayoutEffect(() => {
    if (canvas.current && width) draw(canvas.current, data, rows, columns, cell, shader(data, unsigned, limit, scheme), !unsigned, selected);
  }, [data, rows, columns, cell, width, unsigned, limit, scheme, selected]);
  const picked = (event: MouseEvent) => {
    const at = (event.currentTarget as HTMLElement).getBoundingClientRect();
    const column = Math.floor(((event.clientX - at.left) / at.width) * columns);
    const row = Math.floor(((event.clientY - at.top) / at.height) * rows);
    if (row >= 0 && row < rows && column >= 0 && column < columns) pick?.(row * columns + column);
  };
  return (
    <div class="picture" ref={box}>
      <canvas ref={canvas} role="img" aria-label={label} class={pick ? "pickable" : ""} onClick={pick && picked}
        style={{ width: `${columns * cell * fit}px`, height: `${rows * cell * fit}px` }} />
    </div>
  );
}

function draw(
  canvas: HTMLCanvasElement, data: ArrayLike<number>, rows: number, columns: number, cell: number,
  colour: (value: number) => Rgb, glyphs: boolean, selected: number | null,
): void {
  const scale = Math.max(1, Math.round(devicePixelRatio || 1));
  canvas.width = columns * cell * scale;
  canvas.height = rows * cell * scale;
  const context = canvas.getContext("2d");
  if (!context) return;
  const small = new OffscreenCanvas(columns, rows);
  const pen = small.getContext("2d")!;
  const image = pen.createImageData(columns, rows);
  for (let i = 0; i < rows * columns; i++) image.data.set([...colour(data[i] ?? 0), 255], i * 4);
  pen.putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  context.scale(scale, scale);
  if (glyphs && cell >= GLYPHS) signs(context, data, rows, columns, cell, colour);
  if (selected !== null) ring(context, (selected % columns) * cell, Math.floor(selected / columns) * cell, cell, cell);
}

function signs(
  context: CanvasRenderingContext2D, data: ArrayLike<number>, rows: number, columns: number, cell: number,
  colour: (value: number) => Rgb,
): void {
  context.font = `${Math.floor(cell * 0.7)}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (let i = 0; i < rows * columns; i++) {
    const value = data[i] ?? 0;
    if (value === 0) continue;
    context.fillStyle = inkOn(colour(value));
    context.globalAlpha = 0.75;
    context.fillText(value > 0 ? "+" : "−", ((i % columns) + 0.5) * cell, (Math.floor(i / columns) + 0.55) * cell);
  }
  context.globalAlpha = 1;
}

function ring(context: CanvasRenderingContext2D, x: number, y: number, width: number, height: number): void {
  for (const [colour, line] of [["#fff", 4], ["#000", 2]] as const) {
    context.strokeStyle = colour;
    context.lineWidth = line;
    context.strokeRect(x + 1, y + 1, Math.max(2, width - 2), Math.max(2, height - 2));
  }
}

interface TilesProps {
  data: ArrayLike<number>; // tiles one behind the other
  tile: [number, number];
  count: number;
  label: string;
  unsigned?: boolean;
  selected?: number | null; // a tile
  pick?: (tile: number, cell: number) => void;
  size?: number; // of a tile on the screen
}

/** Many images of one size, side by side, on one scale of colours. */
export function Tiles({ data, tile, count, label, unsigned = false, selected = null, pick, size = 40 }: TilesProps) {
  const { scheme } = useStore();
  const [box, width] = useWidth<HTMLDivElement>();
  const canvas = useRef<HTMLCanvasElement>(null);
  const [rows, columns] = tile;
  const cell = Math.max(1, Math.floor(size / columns));
  const gap = 5;
  const pitch = [cell * columns + gap, cell * rows + gap] as const;
  const across = Math.max(1, Math.floor(((width || 1) + gap) / pitch[0]));
  const down = Math.ceil(count / across);
  const [w, h] = [Math.min(across, count) * pitch[0] - gap, down * pitch[1] - gap];
  useLayoutEffect(() => {
    const target = canvas.current;
    if (!target || !width) return;
    const scale = Math.max(1, Math.round(devicePixelRatio || 1));
    target.width = w * scale;
    target.height = h * scale;
    const context = target.getContext("2d")!;
    context.scale(scale, scale);
    context.imageSmoothingEnabled = false;
    const colour = shader(data, unsigned, undefined, scheme);
    const small = new OffscreenCanvas(columns, rows);
    const pen = small.getContext("2d")!;
    const image = pen.createImageData(columns, rows);
    for (let t = 0; t < count; t++) {
      for (let i = 0; i < rows * columns; i++) image.data.set([...colour(data[t * rows * columns + i] ?? 0), 255], i * 4);
      pen.putImageData(image, 0, 0);
      context.drawImage(small, (t % across) * pitch[0], Math.floor(t / across) * pitch[1], pitch[0] - gap, pitch[1] - gap);
    }
    if (selected !== null && selected < count) {
      ring(context, (selected % across) * pitch[0], Math.floor(selected / across) * pitch[1], pitch[0] - gap, pitch[1] - gap);
    }
  }, [data, count, rows, columns, cell, across, width, unsigned, scheme, selected, w, h]);
  const picked = (event: MouseEvent) => {
    const at = (event.currentTarget as HTMLElement).getBoundingClientRect();
    const [x, y] = [event.clientX - at.left, event.clientY - at.top];
    const index = Math.floor(y / pitch[1]) * across + Math.floor(x / pitch[0]);
    const [cx, cy] = [Math.floor((x % pitch[0]) / cell), Math.floor((y % pitch[1]) / cell)];
    if (index < count) pick?.(index, Math.min(rows - 1, cy) * columns + Math.min(columns - 1, cx));
  };
  return (
    <div class="picture" ref={box}>
      <canvas ref={canvas} role="img" aria-label={label} class={pick ? "pickable" : ""} onClick={pick && picked}
        style={{ width: `${w}px`, height: `${h}px` }} />
    </div>
  );
}

/** A vector as one row of cells, folded into several where it is long. */
export function Strip(props: Omit<MatrixProps, "rows" | "columns"> & { shape: number[] }) {
  const { shape, data } = props;
  const size = data.length;
  const columns = shape.length > 1 ? shape[shape.length - 1]! : foldWidth(size);
  return <Matrix {...props} rows={Math.ceil(size / columns)} columns={columns} />;
}

function foldWidth(size: number): number {
  if (size <= 32) return Math.max(1, size);
  for (const width of [32, 30, 28, 25, 24, 20]) if (size % width === 0) return width;
  return 32;
}

export interface Thumbnail {
  url: string;
  square: boolean; // the image itself rather than a strip
}

/** A small picture of a value for a box of the graph; null where there is nothing to show. */
export function thumbnail(data: ArrayLike<number>, image: [number, number] | null, scheme: Scheme, unsigned: boolean): Thumbnail | null {
  if (!data.length) return null;
  const whole = image !== null && data.length === image[0] * image[1];
  const columns = whole ? image[1] : Math.min(data.length, 24);
  const rows = whole ? image[0] : 1;
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  if (!context) return null;
  const cells = whole ? data : strongestOf(data, columns);
  const colour = shader(cells, whole && unsigned, undefined, scheme);
  const picture = context.createImageData(columns, rows);
  for (let i = 0; i < rows * columns; i++) picture.data.set([...colour(cells[i] ?? 0), 255], i * 4);
  context.putImageData(picture, 0, 0);
  return { url: canvas.toDataURL(), square: whole };
}

/** `count` cells for many values: each shows the strongest of its share. */
function strongestOf(data: ArrayLike<number>, count: number): number[] {
  const cells = new Array<number>(count).fill(0);
  for (let i = 0; i < data.length; i++) {
    const cell = Math.floor((i * count) / data.length);
    if (Math.abs(data[i]!) > Math.abs(cells[cell]!)) cells[cell] = data[i]!;
  }
  return cells;
}
