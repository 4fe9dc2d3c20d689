// What the changed step makes of the rows of its batch, beside what it made of them.

import { useMemo, useState } from "preact/hooks";
import { labels, target } from "./changes";
import type { Change, Meaning } from "./document";
import type { Recomputed } from "./evaluate";
import { Num, count, format } from "./numbers";
import { useStore } from "./state";
import { Fold, Table } from "./table";

const MOST = 12; // classes of one row that are shown

interface Answer {
  row: number;
  before: number[];
  after: number[];
  moved: number; // the largest change of one of its numbers
}

export function Predictions({ step, change }: { step: Recomputed; change: Exclude<Change, { kind: "rate" }> }) {
  const { source, frame } = useStore();
  const { data, meaning } = source.document;
  const classes = data?.classes ?? null;
  const [chosen, choose] = useState<number | null>(null);
  const answers = useMemo(() => {
    const place = target(source, frame, change);
    const [before, after] = [step.output(), place && step.output(step.with(place.values(step)))];
    return before && after ? compared(frame.rows, before, after, classes ? meaning : null) : null;
  }, [source, frame, step, change]);
  const truth = labels(source, frame);
  if (!answers || change.kind === "label") return null; // what the model says does not read the label
  const own = "row" in change ? change.row : null;
  const shown = answers.find((a) => a.row === (own ?? chosen)) ?? answers[0]!;
  const name = (i: number) => classes?.[i] ?? String(i);
  const best = (values: number[]) => (values.length === 1 ? Number(values[0]! > 0.5) : values.indexOf(Math.max(...values)));
  const turned = classes ? answers.filter((a) => best(a.before) !== best(a.after)) : [];
  const label = truth?.[frame.rows.indexOf(shown.row)];
  return (
    <section class="panel" aria-labelledby="predictions-title">
      <h2 id="predictions-title">What the network says of this batch</h2>
      {classes && <p><strong data-name="turned">{count(turned.length)}</strong> of {count(answers.length)} rows {turned.length === 1 ? "is" : "are"} called something else{turned.length > 0 && <>: {turned.slice(0, 6).map((a) => `row ${a.row} ${name(best(a.before))} → ${name(best(a.after))}`).join(", ")}{turned.length > 6 && ", …"}</>}.</p>}
      {own === null && (
        <label class="field">Row{" "}
          <select value={shown.row} onChange={(event) => choose(Number(event.currentTarget.value))}>
            {answers.map((a) => <option key={a.row} value={a.row}>{a.row}</option>)}
          </select>{" "}
          <span>the one that changes most stands first</span>
        </label>
      )}
      <OneRow answer={shown} names={shown.before.map((_, i) => (classes && shown.before.length > 1 ? name(i) : classes ? name(1) : `output ${i}`))} share={classes !== null} title={`Row ${shown.row}${label !== undefined && classes ? `, a ${name(label)}` : ""}`} />
      <Fold summary="Table of all rows">
        {() => <Table caption="Every row of the batch, the one that changes most first" plain head={["row", ...(classes ? ["called", "if"] : []), "largest change"]} rows={answers.length}
          row={(i) => { const a = answers[i]!; return [String(a.row), ...(classes ? [name(best(a.before)), name(best(a.after))] : []), a.moved]; }} />}
      </Fold>
    </section>
  );
}

function OneRow({ answer, names, share, title }: { answer: Answer; names: string[]; share: boolean; title: string }) {
  const order = names.map((_, i) => i).sort((a, b) => (names.length > MOST ? Math.abs(answer.before[b]!) - Math.abs(answer.before[a]!) : a - b)).slice(0, MOST);
  const most = share ? 1 : Math.max(...answer.before.map(Math.abs), ...answer.after.map(Math.abs), 1e-30);
  const write = (value: number) => (share ? (100 * value).toFixed(2) : format(value, 4, true));
  return (
    <div class="scroll" tabIndex={0} role="group" aria-label={title}>
      <table class="beside answers">
        <caption>{title}{share ? ": how sure the network is of each class, in percent" : ""}{names.length > MOST && ` (the ${MOST} largest)`}</caption>
        <thead><tr><th scope="col">{share ? "class" : "output"}</th><th scope="col" class="number">as it was</th><th scope="col" class="number">if</th><th scope="col"><span class="hidden">picture</span></th><th scope="col" class="number">difference</th></tr></thead>
        <tbody>
          {order.map((i) => (
            <tr key={i}>
              <th scope="row">{names[i]}</th>
              <td class="number" data-value={String(answer.before[i])}>{write(answer.before[i]!)}</td>
              <td class="number" data-value={String(answer.after[i])}>{write(answer.after[i]!)}</td>
              <td><Pair before={Math.abs(answer.before[i]!) / most} after={Math.abs(answer.after[i]!) / most} /></td>
              <td class="number"><Num value={(share ? 100 : 1) * (answer.after[i]! - answer.before[i]!)} digits={3} /></td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function Pair({ before, after }: { before: number; after: number }) {
  return (
    <svg class="pair" preserveAspectRatio="none" viewBox="0 0 140 16" width="140" height="16" aria-hidden="true">
      <rect class="was" x="0" y="1" width={Math.max(1, 138 * before)} height="6" />
      <rect class="is" x="0" y="9" width={Math.max(1, 138 * after)} height="6" />
    </svg>
  );
}

/** Both answers for every row, as probabilities where there are classes; the row that changes most first. */
function compared(rows: number[], before: ArrayLike<number>, after: ArrayLike<number>, meaning: Meaning | null): Answer[] {
  const width = before.length / rows.length;
  const part = (values: ArrayLike<number>, i: number) => chances(Array.from({ length: width }, (_, j) => values[i * width + j]!), meaning);
  const answers = rows.map((row, i) => {
    const [was, is] = [part(before, i), part(after, i)];
    return { row, before: was, after: is, moved: Math.max(...was.map((value, j) => Math.abs(is[j]! - value))) };
  });
  return answers.sort((a, b) => b.moved - a.moved);
}

/** As `Trainer.predict_proba` makes them of outputs that mean this; the outputs themselves where nothing is known. */
function chances(outputs: number[], meaning: Meaning | null): number[] {
  switch (meaning) {
    case "logits": {
      const most = Math.max(...outputs);
      const powers = outputs.map((value) => Math.exp(value - most));
      const total = powers.reduce((a, b) => a + b, 0);
      return powers.map((power) => power / total);
    }
    case "log_probabilities":
      return outputs.map(Math.exp);
    case "binary_logits":
      return outputs.map((value) => (value < 0 ? Math.exp(value) : 1) / (1 + Math.exp(-Math.abs(value))));
    default:
      return outputs;
  }
}
