// Every picture has a table with the same numbers; it is made when it is opened.

import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { Num, count } from "./numbers";

export type Cell = string | number | null;

const PAGE = 20;
const COLUMNS = 16;

interface TableProps {
  caption: string;
  head: string[];
  rows: number;
  row(i: number): Cell[]; // the first cell heads the row
  plain?: boolean; // numbers without a sign
}

/** A table in pages of rows (and of columns, where there are many). */
export function Table({ caption, head, rows, row, plain = false }: TableProps) {
  const [first, setFirst] = useState(0);
  const [left, setLeft] = useState(1);
  const from = Math.min(first, Math.max(0, rows - 1));
  const shown = Array.from({ length: Math.max(0, Math.min(PAGE, rows - from)) }, (_, i) => row(from + i));
  const wide = head.length > COLUMNS + 1;
  const start = wide ? Math.min(left, head.length - 1) : 1;
  const numeric = (column: number) => shown.some((cells) => typeof cells[column] === "number");
  const end = wide ? Math.min(head.length, start + COLUMNS) : head.length;
  return (
    <div class="table-box">
      <div class="scroll" tabIndex={0} role="group" aria-label={caption}>
        <table>
          <caption>{caption}</caption>
          <thead>
            <tr>
              <th scope="col">{head[0]}</th>
              {head.slice(start, end).map((name, j) => (
                <th scope="col" key={name} class={numeric(start + j) ? "number" : ""}>{name}</th>
              ))}
            </tr>
          </thead>
          <tbody>
            {shown.map((cells, i) => (
              <tr key={from + i}>
                <th scope="row">{cells[0]}</th>
                {cells.slice(start, end).map((cell, j) => (
                  <td key={j} class={numeric(start + j) ? "number" : ""}>
                    {typeof cell === "number" ? <Num value={cell} plain={plain} /> : (cell ?? "–")}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {rows > PAGE && <Pager what="rows" first={from} step={PAGE} total={rows} set={setFirst} />}
      {wide && <Pager what="columns" first={start - 1} step={COLUMNS} total={head.length - 1} set={(v) => setLeft(v + 1)} />}
    </div>
  );
}

export function Pager(props: { what: string; first: number; step: number; total: number; set(first: number): void }) {
  const { what, first, step, total, set } = props;
  const last = Math.min(total, first + step);
  return (
    <div class="pager">
      <button type="button" disabled={first === 0} onClick={() => set(Math.max(0, first - step))}>
        Previous<span class="hidden"> {what}</span>
      </button>
      <span>
        {what} {count(first + 1)}–{count(last)} of {count(total)}
      </span>
      <button type="button" disabled={last >= total} onClick={() => set(first + step)}>
        Next<span class="hidden"> {what}</span>
      </button>
    </div>
  );
}

/** A picture and, folded away below it, its table. */
export function WithTable({ children, table }: { children: ComponentChildren; table: () => TableProps }) {
  return (
    <div class="with-table">
      {children}
      <Fold summary="Table">{() => <Table {...table()} />}</Fold>
    </div>
  );
}

/** A fold whose contents exist only while it is open. */
export function Fold({ summary, children, open = false }: { summary: string; children: () => ComponentChildren; open?: boolean }) {
  const [shown, setShown] = useState(open);
  return (
    <details class="fold" open={shown} onToggle={(event) => setShown(event.currentTarget.open)}>
      <summary>{summary}</summary>
      {shown && children()}
    </details>
  );
}
