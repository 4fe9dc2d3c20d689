// The fourth view: what the diagnosis confirmed by experiment, and what the checks of the derivatives say.

import { useMemo, useState } from "preact/hooks";
import type { Finding, Remedy } from "./document";
import { num } from "./document";
import { Curves } from "./curves";
import { Num, count } from "./numbers";
import { StateOf } from "./panel";
import { useStore } from "./state";
import { Fold, Table } from "./table";

export function DiagnosisView() {
  const { source } = useStore();
  const { diagnosis, checks } = source.document;
  return (
    <div class="diagnosis">
      <section aria-labelledby="diagnosis-title">
        <h2 id="diagnosis-title">Diagnosis</h2>
        {!diagnosis ? (
          <NotRun what="The diagnosis" how="chainrule diagnose RUN" python="trainer.report(diagnosis=trainer.diagnose())">It raises hypotheses and tests each by replaying from a checkpoint with the remedy applied.</NotRun>
        ) : (
          <>
            <p class="lead">{diagnosis.summary}</p>
            {diagnosis.verdict === "nothing" && <p class="panel">Nothing wrong was found.</p>}
            {diagnosis.verdict === "unknown" && <Unknown bad={diagnosis.bad} tried={diagnosis.tried} />}
            {diagnosis.findings.map((finding, i) => <Card key={i} finding={finding} number={i + 1} />)}
            <p class="facts">
              {count(diagnosis.checked.length)} rules looked at the run; {diagnosis.suspected.length ? `${count(diagnosis.suspected.length)} raised a suspicion (${diagnosis.suspected.join(", ").replaceAll("_", " ")})` : "none suspects anything"}. {count(diagnosis.replays)} replays. {diagnosis.notes.join(" ")}
            </p>
          </>
        )}
      </section>
      <section aria-labelledby="checks-title">
        <h2 id="checks-title">Checks of the derivatives</h2>
        {!checks ? <NotRun what="The check" how="chainrule check RUN" python="trainer.report(checks=model.verify(X, y))">It compares every derivative rule and the whole gradient with numbers made without them.</NotRun> : <Verdicts />}
      </section>
    </div>
  );
}

function NotRun({ what, how, python, children }: { what: string; how: string; python: string; children: string }) {
  return (
    <div class="panel not-run">
      <p><strong>{what} was not run</strong> for this report, so nothing is said here about whether there is anything to find.</p>
      <p>{children} Run <code>{how}</code>, and open the page with <code>chainrule view RUN</code>; or from Python, <code>{python}</code>.</p>
    </div>
  );
}

/** A run that is bad for a reason that no rule knows. */
function Unknown({ bad, tried }: { bad: string; tried: Remedy[] }) {
  return (
    <article class="panel finding" aria-labelledby="unknown">
      <h3 id="unknown">This run is bad, and the cause is not known</h3>
      <p>{bad[0]?.toUpperCase()}{bad.slice(1)}.</p>
      <Tried caption="What was tried" tried={tried} />
    </article>
  );
}

function Tried({ caption, tried }: { caption: string; tried: Remedy[] }) {
  return <Table caption={caption} head={["remedy", "for", "gain (share of what there is to learn)"]} rows={tried.length} row={(i) => [tried[i]!.remedy, (tried[i]!.cause ?? "").replaceAll("_", " "), num(tried[i]!.gain)]} />;
}

function Card({ finding, number }: { finding: Finding; number: number }) {
  const { remedy, alternatives } = finding;
  return (
    <article class="panel finding" aria-labelledby={`finding-${number}`}>
      <h3 id={`finding-${number}`}>{number}. {finding.title}</h3>
      <p class="facts">{finding.where || "the whole run"} · first seen {finding.step === 0 ? "before the first step" : `after step ${count(finding.step)}`}</p>
      <p>{finding.evidence}</p>
      <p><strong>Why:</strong> {finding.why}</p>
      <p><strong>Change:</strong> {finding.change}</p>
      {remedy.control ? (
        <p><strong>Measured by {remedy.remedy}.</strong> Over {remedy.replays} orders of the rows nothing changes (<Num value={100 * num(remedy.gain)} digits={2} /> % of what there is to learn).</p>
      ) : (
        <p><strong>Remedy, measured:</strong> {remedy.remedy}. Over {remedy.replays} orders of the rows it gains <Num value={100 * num(remedy.gain)} digits={3} /> % of what there is to learn (at least <Num value={100 * num(remedy.least)} digits={3} /> %; 0 is a constant guess, 100 everything).</p>
      )}
      <Effect remedy={remedy} />
      {alternatives.length > 0 && (
        <Fold summary={`${alternatives.length} other explanations and remedies, tested`}>
          {() => <Tried caption="What else was tried" tried={alternatives} />}
        </Fold>
      )}
    </article>
  );
}

/** What of the scores a reader compares: the user's loss, where both replays have it. */
const SCORES = ["own", "accuracy", "recalled", "learned"] as const;
const NAMES = { own: "loss", accuracy: "accuracy", recalled: "mean recall of the classes", learned: "learned, of what there is to learn" };

/** The replay as it was beside the replay with the remedy: curves where they were kept, and the scores of both. */
function Effect({ remedy }: { remedy: Remedy }) {
  const { curves, before, after } = remedy;
  const lines = useMemo(() => curves && [{ name: "as it was", values: curves.before.map(value) }, { name: "with the remedy", values: curves.after.map(value) }], [curves]);
  const rows = Object.entries(before).flatMap(([part, scores]) => SCORES.filter((name) => (scores[name] ?? null) !== null || (after[part]?.[name] ?? null) !== null).map((name) => [part, name] as const));
  return (
    <>
      {curves && lines && <Curves title="loss of the replays" unit="" xName="step" at={curves.at} lines={lines} />}
      <Table caption="Scores of the two replays" plain head={["measure", "as it was", "with the remedy"]} rows={rows.length}
        row={(i) => { const [part, name] = rows[i]!; return [`${NAMES[name]}, ${part.replaceAll("_", " ")}`, value(before[part]?.[name] ?? null), value(after[part]?.[name] ?? null)]; }} />
    </>
  );
}

function value(given: number | null): number | null {
  return given === null ? null : num(given);
}

function Verdicts() {
  const { source } = useStore();
  const { ok, sections, verdicts } = source.document.checks!;
  const [all, showAll] = useState(false);
  const tally = (state: string) => verdicts.filter((v) => v.state === state).length;
  return (
    <>
      <p class="lead"><strong class={ok ? "good" : "bad"}>{ok ? "✓ Nothing fails" : "✗ Something fails"}</strong>: {tally("holds")} hold, {tally("fails")} fail, {tally("open")} could not be decided.</p>
      <div class="switch" role="group" aria-label="Which verdicts">
        <button type="button" aria-pressed={!all} onClick={() => showAll(false)}>This network</button>
        <button type="button" aria-pressed={all} onClick={() => showAll(true)}>Everything</button>
      </div>
      {Object.entries(sections).map(([section, title]) => {
        const rows = verdicts.filter((v) => v.section === section && (all || section !== "rules" || v.state !== "holds" || source.document.graph.nodes.some((node) => node.op === v.subject.split(" ")[0])));
        if (!rows.length) return null;
        return (
          <div class="panel verdicts" key={section}>
            <div class="scroll" tabIndex={0} role="group" aria-label={title}>
              <table>
                <caption>{title}</caption>
                <thead><tr><th scope="col">subject</th><th scope="col">verdict</th><th scope="col">figures</th></tr></thead>
                <tbody>{rows.map((v, i) => <tr key={i}><th scope="row">{v.subject}</th><td><StateOf state={v.state} /></td><td class="detail">{v.detail}</td></tr>)}</tbody>
              </table>
            </div>
          </div>
        );
      })}
    </>
  );
}
