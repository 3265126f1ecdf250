import { useRun } from "@tailrace/react";
import { useState } from "react";
import { Problem } from "../data/api.ts";
import { type Decision, decide, stop, useDecision } from "../data/decisions.ts";
import type { Json, Schema } from "../data/types.ts";
import { Failure } from "../ui/parts.tsx";
import { Glyph } from "../ui/status.tsx";
import { ValueForm } from "../ui/ValueForm.tsx";
import { isEnded, type RunState } from "./fold.ts";

interface Props {
  executionId: string;
  nodeId: string;
  schema: Schema | null | undefined;
  /** Whether the wait is over: the decision was applied, or another one was first. */
  isOver: boolean;
  /** The run, where the page follows it. */
  run?: RunState;
}

/** What was typed, by step: another entry of the list, or another page, must not discard it. */
const drafts = new Map<string, Json>();

/** What readers see instead of the form. */
export function NoDecision() {
  return <p className="muted">Your token may read runs, but not decide.</p>;
}

/** Approve or reject, with a receipt: sent, in the log, applied. */
export function DecisionForm({ executionId, nodeId, schema, isOver, run }: Props) {
  const made = useDecision(executionId, nodeId);
  const draft = `${executionId}~${nodeId}`;
  const [value, setValue] = useState<Json>(() => drafts.get(draft) ?? {});
  const change = (next: Json) => {
    drafts.set(draft, next);
    setValue(next);
  };
  if (made && !["refused", "stopped"].includes(made.stage))
    return <Receipt executionId={executionId} nodeId={nodeId} made={made} run={run} />;
  const { error = null, winner = "" } = made ?? {};
  const refused = error instanceof Problem ? error.errors : [];
  const prefix = "/data";
  return (
    <div className="stack">
      {winner ? <p className="strong">{winner}</p> : null}
      {error ? <Failure error={error} /> : null}
      {isOver && !winner ? <p className="muted">This wait is over.</p> : null}
      <ValueForm
        id={`decide-${nodeId}`}
        schema={schema}
        value={value}
        onChange={change}
        onSubmit={(data) => decide(executionId, nodeId, "approved", data)}
        refused={refused
          .filter(({ pointer }) => pointer.startsWith(prefix))
          .map(({ pointer, detail }) => ({ pointer: pointer.slice(prefix.length), detail }))}
      >
        <div className="row tight">
          <button type="submit" className="btn primary" data-key="a" disabled={isOver}>
            Approve
          </button>
          <button
            type="button"
            className="btn danger"
            data-key="r"
            disabled={isOver}
            onClick={() => decide(executionId, nodeId, "rejected", value)}
          >
            Reject
          </button>
        </div>
      </ValueForm>
    </div>
  );
}

type ReceiptProps = Pick<Props, "executionId" | "nodeId" | "run"> & { made: Decision };

function Receipt({ executionId, nodeId, made, run }: ReceiptProps) {
  const isLogged = made.stage === "logged";
  // A page that does not follow the run does so from here until the decision is applied.
  const followed = useRun(isLogged && !run ? executionId : null).state;
  const state = run ?? followed;
  const isApplied = isLogged && state?.commands.get(made.commandId)?.applied === true;
  const isLate = isLogged && !isApplied && state !== null && isEnded(state);
  return (
    <div className="stack">
      <ol className="receipt" aria-label="Receipt">
        {[
          ["sent", made.stage !== "unanswered"],
          ["in the log", isLogged],
          [isLate ? "not applied: the run has ended" : "applied", isApplied],
        ].map(([word, done]) => (
          <li key={String(word)} data-done={done || undefined}>
            <span className={done ? "is-success" : "is-running"}>
              <Glyph status={done ? "success" : isLate ? "skipped" : "running"} />
            </span>
            {word}
          </li>
        ))}
        <li>{made.choice}</li>
      </ol>
      {made.stage === "unanswered" ? (
        <>
          <Failure error={made.error} />
          <p>
            The decision is kept in this tab and sent again by itself. It counts once, even if it
            has already arrived.
          </p>
          <div>
            <button type="button" className="btn" onClick={() => stop(executionId, nodeId)}>
              Stop sending
            </button>
          </div>
        </>
      ) : null}
    </div>
  );
}
