// The derivation and the ledger of a weight, as Python's explanation wrote them.

import type { Derivation, Term } from "./document";
import { num } from "./document";
import { Formula } from "./math";
import { Num, count, exact, format } from "./numbers";
import { Table } from "./table";

export function Derived({ derivation: given }: { derivation: Derivation }) {
  const { derivation: d, ledger, formula, numbers } = given;
  return (
    <>
      <section class="derivation">
        <h3>Derivation</h3>
        <Formula tree={formula} label="The chain rule for this weight" />
        <Formula tree={numbers} label="The same with numbers: the strongest products, all others, and the gradient" />
        <Terms derivation={given} />
        <p class="facts">
          {d.adds_up
            ? <><strong class="good">✓ adds up to the bit</strong>{d.order && <>: added {d.order}, the {count(d.count)} terms give the stored gradient</>}.</>
            : <>The stored gradient differs from the exact sum of its terms by {format(num(d.rounding), 2)}: rounding.</>}{" "}
          Stored: <span class="num" data-engine={String(d.gradient)}>{exact(num(d.gradient))}</span> (bits {d.bits}).
        </p>
      </section>
      {d.paths.length > 0 && <Paths derivation={given} />}
      <Moves ledger={ledger} />
    </>
  );
}

function Terms({ derivation: { derivation: d } }: { derivation: Derivation }) {
  return (
    <div class="scroll" tabIndex={0} role="group" aria-label="What reads this weight">
      <table>
        <caption>Every element Y that reads this weight passes back ∂L/∂Y · ∂Y/∂w; the strongest first</caption>
        <thead><tr><th scope="col">Y</th><th scope="col">∂L/∂Y</th><th scope="col">∂Y/∂w</th><th scope="col">product</th></tr></thead>
        <tbody>
          {d.terms.map((t) => (
            <tr key={t.name}><th scope="row">{t.name}</th><td class="number"><Num value={num(t.upstream)} /></td><td class="number"><span class="quiet">{t.formula} = </span><Num value={num(t.local)} /></td><td class="number"><Num value={num(t.product)} /></td></tr>
          ))}
          {d.count > d.terms.length && <tr class="rest"><th scope="row" colSpan={3}>the other {count(d.count - d.terms.length)} together</th><td class="number"><Num value={num(d.others)} /></td></tr>}
        </tbody>
        <tfoot><tr><th scope="row" colSpan={3}>gradient</th><td class="number" data-name="derived"><Num value={num(d.gradient)} digits={6} /></td></tr></tfoot>
      </table>
    </div>
  );
}

function Paths({ derivation: { derivation: d } }: { derivation: Derivation }) {
  return (
    <section>
      <h3>Strongest paths to the loss</h3>
      <p class="facts">Along a path the local derivatives multiply.</p>
      <ol class="paths">
        {d.paths.map((path, i) => (
          <li key={i}>
            <div class="path scroll" tabIndex={0} role="group" aria-label={`Path ${i + 1}`}>
              {path.steps.map((step, k) => <Hop key={k} step={step} />)}
              <span class="product">= <Num value={num(path.product)} /></span>
            </div>
          </li>
        ))}
      </ol>
      {d.other_paths !== null && <p class="facts">All other paths together add <Num value={num(d.other_paths)} digits={6} /> (exact: the gradient less these).</p>}
    </section>
  );
}

function Hop({ step }: { step: Term }) {
  return <span class="hop"><span class="where">{step.name}</span> <span class="by">× <Num value={num(step.local)} digits={3} /></span></span>;
}

function Moves({ ledger }: { ledger: Derivation["ledger"] }) {
  const rows = [...ledger.parts, { name: "rounding", amount: ledger.rounding, how: "float32 arithmetic of the step itself" }];
  const most = Math.max(...rows.map((part) => Math.abs(num(part.amount))), 1e-300);
  return (
    <section>
      <h3>Ledger of the update</h3>
      <Formula tree={ledger.formula} label="The move as the sum of its causes" />
      <div class="scroll" tabIndex={0} role="group" aria-label="Ledger of the update">
        <table class="ledger">
          <caption>From {exact(num(ledger.before))} to {exact(num(ledger.after))}</caption>
          <thead><tr><th scope="col">cause</th><th scope="col">moves it by</th><th scope="col"><span class="hidden">picture</span></th><th scope="col">computed as</th></tr></thead>
          <tbody>
            {rows.map((part) => (
              <tr key={part.name}>
                <th scope="row">{part.name}</th>
                <td class="number"><Num value={num(part.amount)} /></td>
                <td><Bar share={num(part.amount) / most} /></td>
                <td class="how">{part.how}</td>
              </tr>
            ))}
          </tbody>
          <tfoot><tr><th scope="row">move</th><td class="number" data-name="move"><Num value={num(ledger.move)} digits={6} /></td><td /><td /></tr></tfoot>
        </table>
      </div>
      {ledger.samples && <Table caption="The rows of the batch that pulled it most (the move that plain gradient descent makes of each)" head={["row", "its gradient", "its move"]} rows={ledger.samples.length} row={(i) => { const s = ledger.samples![i]!; return [String(s.row), num(s.gradient), num(s.amount)]; }} />}
    </section>
  );
}

/** A bar to the left of the middle for what is negative, to the right for what is positive. */
function Bar({ share }: { share: number }) {
  const width = Math.min(1, Math.abs(share)) * 46;
  return (
    <svg class="bar" viewBox="0 0 100 12" width="100" height="12" aria-hidden="true">
      <line x1="50" x2="50" y1="0" y2="12" />
      <rect class={share < 0 ? "negative" : "positive"} x={share < 0 ? 50 - width : 50} y="2" width={width} height="8" />
    </svg>
  );
}
