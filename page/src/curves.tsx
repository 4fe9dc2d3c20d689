// Curves over training, drawn by uPlot, with the chosen step marked.

import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import uPlot from "uplot";
import { useWidth } from "./hooks";
import { format } from "./numbers";
import { useStore } from "./state";
import { WithTable } from "./table";

export interface Line {
  name: string;
  values: ArrayLike<number | null>;
}

interface CurvesProps {
  title: string;
  unit: string;
  xName: string;
  at: number[];
  lines: Line[];
  mark?: number | null; // the chosen place on the x axis
  logarithmic?: boolean;
  pick?: (place: number) => void; // the index of the point that was clicked
  height?: number;
  first?: number; // the colour of the first line: one that stands for the same in two charts has one colour
}

const MOST = 12; // lines of one chart; the table has all of them

/** The lines that are drawn: all, or those that are largest somewhere. */
function drawn(lines: Line[]): Line[] {
  if (lines.length <= MOST) return lines;
  const size = (line: Line) => Math.max(...Array.from(line.values, (v) => (v !== null && Number.isFinite(v) ? Math.abs(v) : 0)));
  const largest = new Set([...lines].sort((a, b) => size(b) - size(a)).slice(0, MOST));
  return lines.filter((line) => largest.has(line));
}

/** Steps and epochs are whole numbers. */
const WHOLE = [0, 1, 2, 3, 4, 5, 6, 7, 8].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));

const DASHES = [[], [6, 4], [2, 3], [10, 4, 2, 4]];

export function Curves(props: CurvesProps) {
  const { title, unit, xName, at, mark = null, logarithmic = false, pick, height = 200, first = 0 } = props;
  const lines = useMemo(() => drawn(props.lines), [props.lines]);
  const { scheme } = useStore();
  const [box, width] = useWidth<HTMLDivElement>();
  const target = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const marked = useRef(mark);
  marked.current = mark;
  useLayoutEffect(() => {
    if (!target.current || !width) return;
    const style = getComputedStyle(target.current);
    const colour = (name: string) => style.getPropertyValue(name).trim();
    const rows = lines.map((line) => Array.from(line.values, (v) => usable(v, logarithmic)));
    plot.current = new uPlot(options({ ...props, lines }, width, height, colour, marked), [at, ...rows] as uPlot.AlignedData, target.current);
    const made = plot.current;
    made.over.addEventListener("click", () => made.cursor.idx != null && pick?.(made.cursor.idx));
    return () => made.destroy();
  }, [at, lines, width, height, scheme, logarithmic]);
  useLayoutEffect(() => plot.current?.redraw(false), [mark]);
  const table = () => ({
    caption: `${title}${unit ? ` (${unit})` : ""} by ${xName}`,
    head: [xName, ...props.lines.map((line) => line.name)],
    rows: at.length,
    row: (i: number) => [String(at[i]), ...props.lines.map((line) => line.values[i] ?? null)],
    plain: true,
  });
  return (
    <WithTable table={table}>
      <figure class="chart">
        <figcaption>{title}{unit && <small> {unit}</small>}</figcaption>
        <div ref={box} class="plot-box">
          <div ref={target} class="plot" role="img" aria-label={summary({ ...props, lines })} style={{ minHeight: `${height}px` }} />
        </div>
        {lines.length < props.lines.length && <p class="facts">The {lines.length} largest of {props.lines.length}; the table has all.</p>}
        <ul class="legend">
          {lines.map((line, i) => (
            <li key={line.name}><svg width="26" height="8" aria-hidden="true"><line x1="0" x2="26" y1="4" y2="4" class={`series-${(i + first) % 6}`} stroke-dasharray={(DASHES[Math.floor(i / 6) + (i === 1 && lines.length === 2 ? 1 : 0)] ?? []).join(" ")} /></svg>{line.name}</li>
          ))}
        </ul>
      </figure>
    </WithTable>
  );
}

function usable(value: number | null, logarithmic: boolean): number | null {
  if (value === null || !Number.isFinite(value)) return null;
  return logarithmic && value <= 0 ? null : value;
}

function summary({ title, xName, at, lines }: CurvesProps): string {
  const ends = lines.map((line) => {
    const values = Array.from(line.values).filter((v): v is number => v !== null && Number.isFinite(v));
    return values.length ? `${line.name} from ${format(values[0]!)} to ${format(values[values.length - 1]!)}` : `${line.name} without values`;
  });
  return `${title} by ${xName} ${at[0] ?? ""} to ${at[at.length - 1] ?? ""}: ${ends.join("; ")}`;
}

function options(
  { lines, logarithmic = false, first = 0 }: CurvesProps, width: number, height: number, colour: (name: string) => string,
  marked: { current: number | null },
): uPlot.Options {
  const axis = {
    stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1, size: 4 },
    font: "12px system-ui, sans-serif",
  };
  const two = lines.length === 2;
  return {
    width, height, legend: { show: false }, padding: [8, 12, 0, 0],
    cursor: { y: false, drag: { x: false, y: false } },
    scales: { x: { time: false }, y: logarithmic ? { distr: 3 } : {} },
    axes: [
      { ...axis, size: 28, incrs: WHOLE, values: (_, ticks) => ticks.map((v) => format(v)) },
      { ...axis, size: (_, labels) => room(labels), values: (_, ticks) => apart(ticks) },
    ],
    series: [
      {},
      ...lines.map((line, i) => ({
        label: line.name, stroke: colour(`--series-${(i + first) % 6}`), width: 2, points: { show: (line.values.length || 0) < 2 },
        dash: DASHES[Math.floor(i / 6) + (i === 1 && two ? 1 : 0)] ?? [],
      })),
    ],
    hooks: { draw: [(plot: uPlot) => drawMark(plot, marked.current, colour("--accent"))] },
  };
}

/** How wide an axis must be for its labels: about 7 pixels a character, and the tick beside it. */
function room(labels: string[] | null): number {
  return Math.max(54, 14 + 7 * Math.max(0, ...(labels ?? []).map((label) => label.length)));
}

/** Ticks with as few digits as tell them apart. */
function apart(ticks: (number | null)[]): string[] {
  const write = (digits: number) => ticks.map((v) => (v === null ? "" : format(v, digits)));
  const known = ticks.filter((v) => v !== null).length;
  for (let digits = 2; digits < 6; digits++) if (new Set(write(digits).filter(Boolean)).size === known) return write(digits);
  return write(6);
}

function drawMark(plot: uPlot, place: number | null, stroke: string): void {
  if (place === null) return;
  const x = plot.valToPos(place, "x", true);
  const { top, height, left, width } = plot.bbox;
  if (x < left - 1 || x > left + width + 1) return;
  plot.ctx.save();
  plot.ctx.strokeStyle = stroke;
  plot.ctx.setLineDash([]);
  plot.ctx.lineWidth = 2 * devicePixelRatio;
  plot.ctx.beginPath();
  plot.ctx.moveTo(x, top);
  plot.ctx.lineTo(x, top + height);
  plot.ctx.stroke();
  plot.ctx.restore();
}
