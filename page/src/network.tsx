// The first view: the mirrored graph, the steps of one pass, and the panel of what was chosen.

import { useMemo } from "preact/hooks";
import { Graph } from "./graph";
import { count } from "./numbers";
import { Panel, ParameterLink } from "./panel";
import { build, moduleName, pass, sizes, type Beat } from "./scene";
import { useStore } from "./state";
import { Fold, Table } from "./table";

export function Network() {
  const { source, state, set } = useStore();
  const { document } = source;
  const scene = useMemo(() => build(document, state.open), [document, state.open]);
  const beats = useMemo(() => pass(document), [document]);
  const order = useMemo(() => new Map(beats.map((beat, i) => [`${beat.phase} ${beat.node}`, i])), [beats]);
  const modules = document.graph.modules.map((_, i) => i).filter((i) => i > 0);
  const toggle = (module: number) => {
    const open = new Set(state.open);
    if (!open.delete(module)) open.add(module);
    set({ open });
  };
  return (
    <div class="network">
      <div class="toolbar">
        <Stepper beats={beats} />
        <div class="group" role="group" aria-label="Modules">
          <button type="button" onClick={() => set({ open: new Set(modules) })}>Open all</button>
          <button type="button" onClick={() => set({ open: new Set() })}>Close all</button>
        </div>
      </div>
      <Graph scene={scene} order={order} toggle={toggle} />
      <p class="legend-line">
        <span class="swatch negative">− negative</span> <span class="swatch positive">+ positive</span>
        <span class="line-saved">┊ saved value</span>
        <span class="keys">arrows move · Enter shows · o opens and closes · + − 0 zoom · n, p step</span>
      </p>
      <Fold summary={`Table of the ${count(document.graph.nodes.length)} nodes`}>{() => <NodeTable />}</Fold>
      <div class="columns">
        <Panel />
        <aside class="panel" aria-labelledby="parameters-title">
          <h2 id="parameters-title">Parameters</h2>
          {document.parameters.map((p, i) => <ParameterLink key={p.name} parameter={i} />)}
        </aside>
      </div>
    </div>
  );
}

/** Walks through one pass: forwards and back, op by op. */
function Stepper({ beats }: { beats: Beat[] }) {
  const { source, state } = useStore();
  const go = useStep(beats);
  const { cursor } = state;
  const beat = cursor === null ? null : beats[cursor]!;
  const firstBackward = beats.findIndex((b) => b.phase === "backward");
  const name = beat && `${beat.phase}: ${source.document.graph.nodes[beat.node]!.label}`;
  return (
    <div class="group stepper" role="group" aria-label="Step through one pass">
      <button type="button" onClick={() => go(cursor === null ? 0 : cursor - 1)} disabled={cursor === 0}><span aria-hidden="true">◂ </span>Back<span class="hidden"> to the previous op</span></button>
      <button type="button" onClick={() => go(cursor === null ? 0 : cursor + 1)} disabled={cursor === beats.length - 1}>Next op<span aria-hidden="true"> ▸</span></button>
      <button type="button" onClick={() => go(Math.max(0, firstBackward))}>To the backward pass</button>
      {cursor !== null && <button type="button" onClick={() => go(null)}>End</button>}
      <output>{cursor === null ? `${beats.length} steps: forward, then backward` : `${cursor + 1} of ${beats.length} · ${name}`}</output>
    </div>
  );
}

/** Moves to a place of the pass: opens the module of the op, selects it, says what happens there. */
export function useStep(beats: Beat[]): (place: number | null) => void {
  const { source, state, set, say } = useStore();
  return (place) => {
    if (place === null) return set({ cursor: null });
    const cursor = Math.max(0, Math.min(beats.length - 1, place));
    const { node, phase } = beats[cursor]!;
    const at = source.document.graph.nodes[node]!;
    const open = new Set(state.open);
    for (let module: number | null = at.module; module !== null; module = source.document.graph.modules[module]!.parent) open.add(module);
    set({ cursor, open, selection: { kind: "node", node, phase, element: 0 } });
    say(`Step ${cursor + 1} of ${beats.length}: ${phase} of ${at.label} in ${moduleName(source.document, at.module) || "the model"}`);
  };
}

function NodeTable() {
  const { source, frame } = useStore();
  const { nodes } = source.document.graph;
  const norm = (array: ArrayLike<number> | undefined) => (array ? Math.hypot(...Array.from(array)) : null);
  return (
    <Table caption="Every node of the graph; the norms are of the sample that is shown" plain
      head={["node", "module", "shape", "reads", "norm of the value", "norm of the gradient"]} rows={nodes.length}
      row={(i) => {
        const node = nodes[i]!;
        return [
          `${i}: ${node.label}`, moduleName(source.document, node.module) || "model", sizes(node.shape), node.inputs.join(", ") || "–",
          norm(source.tensor(frame.values[String(i)])?.data), norm(source.tensor(frame.grads[String(i)])?.data),
        ];
      }} />
  );
}
