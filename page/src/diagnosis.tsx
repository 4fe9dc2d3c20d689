// The fourth view: what the diagnosis confirmed by experiment, and what the checks of the derivatives say.

import type { Finding } from "./document";
import { num } from "./document";
import { Curves } from "./curves";
import { count, format } from "./numbers";
import { useStore } from "./state";
import { Fold } from "./table";

export function DiagnosisView() {
  const { source } = useStore();
  const { diagnosis, checks } = source.document;
  return (
    <div class="diagnosis">
      <section aria-labelledby="diagnosis-title">
        <h2 id="diagnosis-title">Diagnosis</h2>
        {!diagnosis ? (
          <NotRun what="The diagnosis" how="chainrule diagnose RUN">It raises hypotheses and tests each by replaying from a checkpoint with the remedy applied.</NotRun>
        ) : (
          <>
            <p class="lead">{diagnosis.summary}</p>
            {diagnosis.findings.map((finding, i) => <Card key={i} finding={finding} />)}
          </>
        )}
      </section>
      <section aria-labelledby="checks-title">
        <h2 id="checks-title">Checks of the derivatives</h2>
        {!checks ? <NotRun what="The check" how="chainrule check RUN">It compares every derivative rule and the whole gradient with numbers made without them.</NotRun> : <Verdicts />}
      </section>
    </div>
  );
}

function NotRun({ what, how, children }: { what: string; how: string; children: string }) {
  return (
    <div class="panel not-run">
      <p><strong>{what} was not run</strong> for this report, so nothing is said here about whether there is anything to find.</p>
      <p>{children} Run <code>{how}</code>, then write the report again.</p>
    </div>
  );
}

function Card({ finding }: { finding: Finding }) {
  const { effect } = finding;
  return (
    <article class="panel finding">
      <h3>{finding.title}</h3>
      <p class="facts">{finding.where}{finding.step !== null && <> · from step {count(finding.step)}</>}</p>
      <p>{finding.summary}</p>
      {finding.evidence.length > 0 && <ul>{finding.evidence.map((line) => <li key={line}>{line}</li>)}</ul>}
      {finding.remedy && <p><strong>Remedy tried:</strong> {finding.remedy}</p>}
      {effect && (
        <>
          <p><strong>Measured effect:</strong> {effect.text}</p>
          {effect.at.length > 1 && <Curves title={effect.measure} unit="" xName="step" at={effect.at} lines={[{ name: "as it was", values: effect.before.map((v) => (v === null ? null : num(v))) }, { name: "with the remedy", values: effect.after.map((v) => (v === null ? null : num(v))) }]} />}
        </>
      )}
      {finding.rejected.length > 0 && <Fold summary={`${finding.rejected.length} other explanations, tested and rejected`}>{() => <ul>{finding.rejected.map((r) => <li key={r.title}><b>{r.title}</b>: {r.why}</li>)}</ul>}</Fold>}
    </article>
  );
}

function Verdicts() {
  const { source } = useStore();
  const { summary, verdicts } = source.document.checks!;
  return (
    <div class="panel">
      <p class="lead">{summary}</p>
      <div class="scroll" tabIndex={0} role="region" aria-label="Verdicts">
        <table>
          <caption>Every check and how far apart the two numbers were</caption>
          <thead><tr><th scope="col">subject</th><th scope="col">check</th><th scope="col">verdict</th><th scope="col">error</th><th scope="col">allowed</th></tr></thead>
          <tbody>
            {verdicts.map((v, i) => (
              <tr key={i}>
                <th scope="row">{v.subject}</th><td>{v.kind}</td>
                <td><strong class={v.passed ? "good" : "bad"}>{v.passed ? "✓ agrees" : "✗ disagrees"}</strong></td>
                <td class="number">{v.error === null ? "–" : format(num(v.error), 2)}</td><td class="number">{v.tolerance === null ? "–" : format(num(v.tolerance), 2)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </div>
  );
}
