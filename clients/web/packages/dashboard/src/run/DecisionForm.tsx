import { useRef, useState } from "react";
import { get, Problem, post } from "../data/api.ts";
import type { Json, RunDocument, Schema } from "../data/types.ts";
import { clock } from "../ui/format.ts";
import { Failure, toast } from "../ui/parts.tsx";
import { Glyph } from "../ui/status.tsx";
import { ValueForm } from "../ui/ValueForm.tsx";

interface Props {
  executionId: string;
  nodeId: string;
  schema: Schema | null | undefined;
  /** Whether the wait is over: the decision was applied, or another one was first. */
  isOver: boolean;
}

/** What readers see instead of the form. */
export function NoDecision() {
  return <p className="muted">Your token may read runs, but not decide.</p>;
}

/** Approve or reject, with a receipt: sent, in the log, applied. */
export function DecisionForm({ executionId, nodeId, schema, isOver }: Props) {
  const [value, setValue] = useState<Json>({});
  const [stage, setStage] = useState<"open" | "sent" | "logged">("open");
  const [decision, setDecision] = useState("");
  const [error, setError] = useState<unknown>(null);
  const [winner, setWinner] = useState("");
  const form = useRef<HTMLDivElement>(null);

  const send = async (chosen: "approved" | "rejected", data: Json) => {
    setError(null);
    setDecision(chosen);
    setStage("sent");
    try {
      await post(`api/v1/executions/${executionId}/resume`, {
        node_id: nodeId,
        decision: chosen,
        data,
      });
      setStage("logged");
      toast(`${chosen === "approved" ? "Approved" : "Rejected"} ${nodeId}`, "success");
    } catch (failure) {
      setStage("open");
      setError(failure);
      if (failure instanceof Problem && failure.status === 409) setWinner(await winnerOf());
    }
  };

  const winnerOf = async (): Promise<string> => {
    const path = `api/v1/executions/${executionId}?include_logs=true`;
    const { logs = [] } = await get<RunDocument>(path);
    const found = logs.findLast(
      ({ type, data }) =>
        type === "command:requested" && (data as { node_id?: string } | null)?.node_id === nodeId,
    );
    if (!found) return "The wait is over: it timed out, or the run was cancelled.";
    const { actor, decision: made } = found.data as { actor?: string; decision?: string };
    return `${actor || "Someone else"} was first: ${made ?? "resumed"} at ${clock(found.timestamp)}.`;
  };

  if (stage === "logged" || (stage === "sent" && isOver)) {
    return (
      <ol className="receipt" aria-label="Receipt">
        {[
          ["sent", true],
          ["in the log", true],
          ["applied", isOver],
        ].map(([word, done]) => (
          <li key={String(word)} data-done={done || undefined}>
            <span className={done ? "is-success" : "is-running"}>
              <Glyph status={done ? "success" : "running"} />
            </span>
            {word}
          </li>
        ))}
        <li>{decision}</li>
      </ol>
    );
  }
  const refused = error instanceof Problem ? error.errors : [];
  const prefix = "/data";
  return (
    <div ref={form} className="stack">
      {winner ? <p className="strong">{winner}</p> : null}
      {error ? <Failure error={error} /> : null}
      {isOver && !winner ? <p className="muted">This wait is over.</p> : null}
      <ValueForm
        id={`decide-${nodeId}`}
        schema={schema}
        value={value}
        onChange={setValue}
        onSubmit={(data) => send("approved", data)}
        refused={refused
          .filter(({ pointer }) => pointer.startsWith(prefix))
          .map(({ pointer, detail }) => ({ pointer: pointer.slice(prefix.length), detail }))}
      >
        <div className="row tight">
          <button
            type="submit"
            className="btn primary"
            data-key="a"
            disabled={stage === "sent" || isOver}
          >
            Approve
          </button>
          <button
            type="button"
            className="btn danger"
            data-key="r"
            disabled={stage === "sent" || isOver}
            onClick={() => send("rejected", value)}
          >
            Reject
          </button>
        </div>
      </ValueForm>
    </div>
  );
}
