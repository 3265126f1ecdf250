import type { PausedWorkflow } from "@tailrace/client";
import { useEffect, useRef, useState } from "react";
import { useEndpoint, useStore } from "../context.js";
import { usePausedWorkflows } from "../hooks/usePausedWorkflows.js";

const GREEN = "#16a34a";
const GREY = "#9ca3af";
const DOT = { display: "inline-block", width: 10, height: 10, borderRadius: "50%" } as const;

/** A dot that pulses while the list is live. Animated by script: a policy may forbid style sheets. */
function LiveDot({ isLive }: { isLive: boolean }) {
  const dot = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    const isCalm = globalThis.matchMedia?.("(prefers-reduced-motion: reduce)").matches;
    if (!isLive || isCalm) return;
    const frames = [{ opacity: 1 }, { opacity: 0.3 }, { opacity: 1 }];
    const pulse = dot.current?.animate?.(frames, {
      duration: 2000,
      iterations: Number.POSITIVE_INFINITY,
    });
    return () => pulse?.cancel();
  }, [isLive]);
  const label = isLive ? "Live" : "Not connected";
  return (
    <span
      ref={dot}
      role="img"
      aria-label={label}
      title={label}
      style={{ ...DOT, background: isLive ? GREEN : GREY }}
    />
  );
}

/** Return a duration in its two largest units. */
function duration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const units: [string, number][] = [
    ["d", Math.floor(seconds / 86_400)],
    ["h", Math.floor(seconds / 3_600) % 24],
    ["min", Math.floor(seconds / 60) % 60],
    ["s", seconds % 60],
  ];
  const first = units.findIndex(([, count]) => count > 0);
  if (first < 0) return "0 s";
  return units
    .slice(first, first + 2)
    .map(([unit, count]) => `${count} ${unit}`)
    .join(" ");
}

function useNow(): number | null {
  // A server and a page that hydrates have different clocks, so neither shows durations.
  const [now, setNow] = useState<number | null>(null);
  useEffect(() => {
    setNow(Date.now());
    const id = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(id);
  }, []);
  return now;
}

interface RowProps {
  readonly entry: PausedWorkflow;
  readonly now: number | null;
  readonly onResume: () => Promise<unknown>;
  readonly onCancel: () => Promise<unknown>;
}

function Row({ entry, now, onResume, onCancel }: RowProps) {
  const [asks, setAsks] = useState(false);
  const [isBusy, setIsBusy] = useState(false);
  const run = (action: () => Promise<unknown>) => {
    setIsBusy(true);
    // The hook shows the error; the row stays until the stream removes it.
    action()
      .catch(() => {})
      .finally(() => setIsBusy(false));
  };
  const paused = now === null ? "" : duration(now - Date.parse(entry.pausedTime));
  const left =
    entry.timeoutAt === null
      ? "no limit"
      : now === null
        ? ""
        : duration(Date.parse(entry.timeoutAt) - now);
  return (
    <tr>
      <td>{entry.workflowName || entry.workflowId}</td>
      <td>
        <code>{entry.executionId}</code>
      </td>
      <td>
        <details>
          <summary>{entry.pausedAt}</summary>
          <pre>{JSON.stringify(entry.variables, null, 2)}</pre>
        </details>
      </td>
      <td>
        {entry.waitingFor.length ? entry.waitingFor.join(", ") : entry.reason || "a decision"}
      </td>
      <td>{paused}</td>
      <td>{left}</td>
      <td>
        <button type="button" disabled={isBusy} onClick={() => run(onResume)}>
          Resume
        </button>
        {asks ? (
          <>
            <button type="button" disabled={isBusy} onClick={() => run(onCancel)}>
              Yes, cancel
            </button>
            <button type="button" onClick={() => setAsks(false)}>
              Keep
            </button>
          </>
        ) : (
          <button type="button" disabled={isBusy} onClick={() => setAsks(true)}>
            Cancel
          </button>
        )}
      </td>
    </tr>
  );
}

export interface PausedWorkflowsProps {
  /** Default `/api/workflow`. */
  readonly apiBaseUrl?: string;
}

/** The paused workflows of a tenant, live, with their actions. */
export function PausedWorkflows({ apiBaseUrl = "/api/workflow" }: PausedWorkflowsProps) {
  const { pausedWorkflows, isLoading, error, resume, cancel } = usePausedWorkflows({ apiBaseUrl });
  const [client] = useEndpoint(apiBaseUrl);
  const { state } = useStore(client.connection);
  const now = useNow();
  return (
    <section aria-label="Paused workflows">
      <h2>
        <LiveDot isLive={state === "connected"} /> Paused workflows ({pausedWorkflows.length})
      </h2>
      {error === null ? null : <p role="alert">{error}</p>}
      {isLoading ? <p>Loading…</p> : null}
      {!isLoading && pausedWorkflows.length === 0 ? (
        <p>
          No workflow is paused. One appears here when a step waits for a decision or a trigger.
        </p>
      ) : null}
      {pausedWorkflows.length ? (
        <table>
          <thead>
            <tr>
              {[
                "Workflow",
                "Execution",
                "Paused at",
                "Waiting for",
                "Duration",
                "Time left",
                "Actions",
              ].map((title) => (
                <th key={title} scope="col">
                  {title}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {pausedWorkflows.map((entry) => (
              <Row
                key={`${entry.executionId} ${entry.pausedAt}`}
                entry={entry}
                now={now}
                onResume={() => resume(entry.executionId, {}, entry.pausedAt)}
                onCancel={() => cancel(entry.executionId)}
              />
            ))}
          </tbody>
        </table>
      ) : null}
    </section>
  );
}
