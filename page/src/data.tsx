// The third view: what the model says about each test row at the chosen step.

import { useMemo, useState } from "preact/hooks";
import { css, grey, inkOn } from "./colours";
import { count, format } from "./numbers";
import { Tiles } from "./pictures";
import { useStore } from "./state";
import { Fold, Pager, Table } from "./table";

const SHOWN = 24;

export function DataView() {
  const { source, frame } = useStore();
  const { data, meaning } = source.document;
  const predicted = source.tensor(frame.predictions)?.data;
  const labels = source.tensor(data?.labels)?.data;
  const [cell, setCell] = useState<[number, number] | null>(null);
  const matrix = useMemo(() => (predicted && labels && data ? confusion(labels, predicted, data.classes.length) : null), [labels, predicted, data]);
  if (meaning === "values") return <p class="hint">Under this loss the outputs are values, so there are no classes to compare.</p>;
  if (!data || !matrix || !labels || !predicted) return <p class="hint">No test rows were given to this report, so there is nothing to compare. Pass <code>data=(X, y)</code> to <code>trainer.report</code>, with <code>validation_data</code> to <code>fit</code>.</p>;
  const right = matrix.reduce((a, row, i) => a + row[i]!, 0);
  const wrong = [...Array(labels.length).keys()].filter((i) => labels[i] !== predicted[i]);
  return (
    <div class="data">
      <p class="lead">
        At step {count(frame.step)}, <strong data-name="accuracy">{format((100 * right) / labels.length, 4)} %</strong> of the {count(labels.length)} test rows are right; {count(wrong.length)} are not.
      </p>
      <div class="columns even">
        <Confusion matrix={matrix} classes={data.classes} cell={cell} setCell={setCell} />
        <Mistakes wrong={cell ? wrong.filter((i) => labels[i] === cell[0] && predicted[i] === cell[1]) : wrong} cell={cell} clear={() => setCell(null)} />
      </div>
      <PerClass matrix={matrix} classes={data.classes} />
    </div>
  );
}

function confusion(labels: ArrayLike<number>, predicted: ArrayLike<number>, classes: number): number[][] {
  const matrix = Array.from({ length: classes }, () => new Array<number>(classes).fill(0));
  for (let i = 0; i < labels.length; i++) matrix[labels[i]!]![predicted[i]!]!++;
  return matrix;
}

interface ConfusionProps {
  matrix: number[][];
  classes: string[];
  cell: [number, number] | null;
  setCell(cell: [number, number] | null): void;
}

function Confusion({ matrix, classes, cell, setCell }: ConfusionProps) {
  const { scheme } = useStore();
  const most = Math.max(1, ...matrix.flat());
  return (
    <section class="panel" aria-labelledby="confusion-title">
      <h2 id="confusion-title">Confusion matrix</h2>
      <div class="scroll" tabIndex={0} role="group" aria-label="Confusion matrix">
        <table class="confusion">
          <caption>Rows: the true class. Columns: what the model says. Choose a cell to see its images.</caption>
          <thead><tr><th scope="col"><span class="hidden">true class</span></th>{classes.map((name, j) => <th scope="col" key={j}>{name}</th>)}</tr></thead>
          <tbody>
            {matrix.map((row, i) => (
              <tr key={i}>
                <th scope="row">{classes[i]}</th>
                {row.map((value, j) => {
                  const colour = grey(Math.sqrt(value), 0, Math.sqrt(most), scheme);
                  const chosen = cell?.[0] === i && cell[1] === j;
                  const style = { background: css(colour), color: inkOn(colour) };
                  return (
                    <td key={j} class={i === j ? "right" : value ? "wrong" : ""} style={style}>
                      {i !== j && value ? <button type="button" aria-pressed={chosen} style={{ color: inkOn(colour) }} aria-label={`${value} of class ${classes[i]} taken for ${classes[j]}`} onClick={() => setCell(chosen ? null : [i, j])}>{value}</button> : value || "·"}
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Mistakes({ wrong, cell, clear }: { wrong: number[]; cell: [number, number] | null; clear(): void }) {
  const { source, frame } = useStore();
  const [first, setFirst] = useState(0);
  const data = source.document.data!;
  const labels = source.tensor(data.labels)!.data;
  const predicted = source.tensor(frame.predictions)!.data;
  const confidence = source.tensor(frame.confidence)?.data;
  const images = source.tensor(data.images);
  const from = first < wrong.length ? first : 0;
  const rows = wrong.slice(from, from + SHOWN);
  const size = data.image ? data.image[0] * data.image[1] : 0;
  const describe = (i: number) => `${data.classes[labels[i]!]} taken for ${data.classes[predicted[i]!]}`;
  return (
    <section class="panel" aria-labelledby="mistakes-title">
      <h2 id="mistakes-title">Misclassified{cell && <small> {data.classes[cell[0]]} taken for {data.classes[cell[1]]}</small>}</h2>
      {cell && <p><button type="button" onClick={clear}>Show all</button></p>}
      {!rows.length && <p class="hint">{cell ? "No such row at this step." : "Every test row is right at this step."}</p>}
      <ul class="mistakes">
        {rows.map((i) => (
          <li key={i}>
            {images && data.image && i < data.shown && <Tiles data={slice(images.data, i * size, size)} tile={data.image} count={1} label={`Test row ${i}: ${describe(i)}`} unsigned size={64} />}
            <span><b>{data.classes[labels[i]!]}</b> → <b class="bad">{data.classes[predicted[i]!]}</b></span>
            {confidence && <small>{format(100 * confidence[i]!, 3)} % sure</small>}
          </li>
        ))}
      </ul>
      {wrong.length > SHOWN && <Pager what="rows" first={from} step={SHOWN} total={wrong.length} set={setFirst} />}
      <Fold summary="Table">
        {() => <Table caption="Misclassified test rows" plain head={["row", "true class", "model says", "probability"]} rows={wrong.length} row={(k) => { const i = wrong[k]!; return [String(i), data.classes[labels[i]!]!, data.classes[predicted[i]!]!, confidence?.[i] ?? null]; }} />}
      </Fold>
    </section>
  );
}

function slice(data: ArrayLike<number>, from: number, size: number): number[] {
  return Array.from({ length: size }, (_, i) => data[from + i]!);
}

function PerClass({ matrix, classes }: { matrix: number[][]; classes: string[] }) {
  return (
    <section class="panel">
      <h2>Each class</h2>
      <p class="facts">Precision: of those called so, the share that are. Recall: of those that are, the share called so.</p>
      <Table caption="Precision and recall of each class" plain head={["class", "rows", "precision", "recall"]} rows={classes.length}
        row={(i) => {
          const called = matrix.reduce((a, row) => a + row[i]!, 0);
          const there = matrix[i]!.reduce((a, b) => a + b, 0);
          return [classes[i]!, String(there), called ? matrix[i]![i]! / called : null, there ? matrix[i]![i]! / there : null];
        }} />
    </section>
  );
}
