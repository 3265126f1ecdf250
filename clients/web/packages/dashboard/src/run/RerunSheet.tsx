import { useState } from "react";
import { post } from "../data/api.ts";
import type { GraphDocument } from "../data/types.ts";
import { go, href } from "../router.tsx";
import { Choice } from "../ui/fields.tsx";
import { count } from "../ui/format.ts";
import { Command, Sheet } from "../ui/parts.tsx";
import { nodeOf, type RunState } from "./fold.ts";
import { descendantsOf } from "./shape.ts";

interface Props {
  run: RunState;
  graph: GraphDocument | null;
  onClose: () => void;
}

/** Choose where a rerun begins, and see what runs again and what is kept. */
export function RerunSheet({ run, graph, onClose }: Props) {
  const failed = [...run.steps.values()].find((step) => step.status === "error");
  const [from, setFrom] = useState(failed ? nodeOf(failed.node_id) : "");
  const nodes = graph?.layers.flat() ?? [];
  const again = new Set(from && graph ? descendantsOf(graph, from) : nodes);
  const isKept = (id: string) => !again.has(id) && run.steps.get(id)?.status === "success";
  const kept = nodes.filter(isKept);
  const rerun = async () => {
    const body = from ? { from_node: from } : {};
    const made = await post<{ execution_id: string }>(
      `api/v1/executions/${run.execution_id}/rerun`,
      body,
    );
    onClose();
    go(href("runs", made.execution_id));
  };
  const nameOf = (id: string) => graph?.nodes.find((node) => node.id === id)?.name ?? id;
  return (
    <Sheet
      title="Run again"
      onClose={onClose}
      foot={
        <>
          <button type="button" className="btn" onClick={onClose}>
            Close
          </button>
          <Command run={rerun} done="The rerun has begun" className="primary">
            Run again
          </Command>
        </>
      }
    >
      <Choice label="Begin at" value={from} onChange={setFrom}>
        <option value="">the beginning</option>
        {nodes.map((id) => (
          <option key={id} value={id}>
            {nameOf(id)}
          </option>
        ))}
      </Choice>
      <p className="hint">
        {count(kept.length, "step")} {kept.length === 1 ? "is" : "are"} kept with the output of this
        run; {count(nodes.length - kept.length, "step")} run again.
      </p>
      <div className="halves">
        <div>
          <h3>Runs again</h3>
          <ul className="muted">
            {nodes
              .filter((id) => !isKept(id))
              .slice(0, 12)
              .map((id) => (
                <li key={id}>{nameOf(id)}</li>
              ))}
          </ul>
        </div>
        <div>
          <h3>Kept</h3>
          <ul className="muted">
            {kept.slice(0, 12).map((id) => (
              <li key={id}>{nameOf(id)}</li>
            ))}
          </ul>
        </div>
      </div>
    </Sheet>
  );
}
