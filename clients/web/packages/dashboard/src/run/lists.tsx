import { useMemo, useState } from "react";
import { get } from "../data/api.ts";
import type { GraphDocument, RunDocument } from "../data/types.ts";
import { clock, duration } from "../ui/format.ts";
import { Command, Empty } from "../ui/parts.tsx";
import { StatusWord, wordOf } from "../ui/status.tsx";
import { VirtualList } from "../ui/VirtualList.tsx";
import { type Comparison, compared } from "./compared.ts";
import { listed, type RunEvent, type RunState, titleOf } from "./fold.ts";

interface StepsProps {
  graph: GraphDocument | null;
  run: RunState;
  selected: string | null;
  onSelect: (id: string) => void;
}

export function StepsList({ graph, run, selected, onSelect }: StepsProps) {
  const steps = useMemo(() => listed(graph, run), [graph, run]);
  const [text, setText] = useState("");
  const [only, setOnly] = useState("");
  const shown = steps.filter(
    (step) =>
      (!only || step.status === only) &&
      (!text ||
        `${step.node_id} ${step.name} ${step.node_type}`
          .toLowerCase()
          .includes(text.toLowerCase())),
  );
  const statuses = new Map<string, number>();
  for (const { status } of steps) statuses.set(status, (statuses.get(status) ?? 0) + 1);
  return (
    <div className="card panel" style={{ gridTemplateRows: "auto auto minmax(0, 1fr)" }}>
      <div className="card-head wrap">
        <input
          className="input"
          placeholder="Filter steps"
          aria-label="Filter steps"
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
        <select
          className="select"
          aria-label="Status of the steps"
          value={only}
          onChange={(event) => setOnly(event.target.value)}
        >
          <option value="">All {steps.length}</option>
          {[...statuses].map(([status, many]) => (
            <option key={status} value={status}>
              {wordOf(status)} {many}
            </option>
          ))}
        </select>
      </div>
      <div className="vhead steps-cols">
        <span>Status</span>
        <span>Step</span>
        <span className="hide-narrow">Type</span>
        <span className="hide-narrow">Attempt</span>
        <span className="hide-narrow">Started</span>
        <span>Took</span>
      </div>
      <VirtualList items={shown} rowHeight={32} label="Steps">
        {(step) => (
          <button
            type="button"
            className="vrow steps-cols"
            data-selected={step.node_id === selected || undefined}
            onClick={() => onSelect(step.node_id)}
          >
            <StatusWord status={step.status} />
            <span className="clip strong" title={step.node_id}>
              {titleOf(step)}
            </span>
            <span className="clip muted hide-narrow">{step.node_type}</span>
            <span className="muted hide-narrow">{step.attempt || "–"}</span>
            <span className="muted hide-narrow">{clock(step.started_at)}</span>
            <span className="muted">{duration(step.duration_ms)}</span>
          </button>
        )}
      </VirtualList>
    </div>
  );
}

interface LogsProps {
  events: readonly RunEvent[];
  count: number;
  isLive: boolean;
  selected: string | null;
}

const SHOWN = new Set(["step:log", "step:failed", "step:retrying"]);

export function LogsList({ events, count, isLive, selected }: LogsProps) {
  const [text, setText] = useState("");
  const [onlyStep, setOnlyStep] = useState(false);
  const [follow, setFollow] = useState(true);
  const lines = useMemo(
    () => events.slice(0, count).filter((event) => SHOWN.has(event.type)),
    [events, count],
  );
  const shown = lines.filter(
    ({ data }) =>
      (!onlyStep || data.node_id === selected) &&
      (!text || messageOf(data).toLowerCase().includes(text.toLowerCase())),
  );
  return (
    <div className="card panel">
      <div className="card-head wrap">
        <input
          className="input"
          placeholder="Search the lines"
          aria-label="Search the lines"
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
        {selected ? (
          <label className="check">
            <input
              type="checkbox"
              checked={onlyStep}
              onChange={(event) => setOnlyStep(event.target.checked)}
            />
            Only <code>{selected}</code>
          </label>
        ) : null}
        <span className="grow" />
        <label className="check">
          <input
            type="checkbox"
            checked={follow}
            onChange={(event) => setFollow(event.target.checked)}
          />
          Follow
        </label>
      </div>
      {shown.length ? (
        <VirtualList items={shown} rowHeight={28} label="Log lines" follow={follow && isLive}>
          {({ type, data, timestamp }) => {
            const level = type === "step:log" ? String(data.level) : "error";
            return (
              <div className={`vrow logs-cols log-${level}`} title={messageOf(data)}>
                <code className="muted">{clock(timestamp, true)}</code>
                <span className="hide-narrow">{level}</span>
                <code className="clip muted hide-narrow">{String(data.node_id)}</code>
                <code className="clip">{messageOf(data)}</code>
              </div>
            );
          }}
        </VirtualList>
      ) : (
        <Empty title={lines.length ? "No line matches" : "No lines yet"}>
          <span>
            A node writes them with <code>ctx.log("…")</code>, a workflow with a node of type{" "}
            <code>log</code>. Failures appear here as well.
          </span>
        </Empty>
      )}
    </div>
  );
}

function messageOf(data: RunEvent["data"]): string {
  const fields = Object.entries((data.fields as object | undefined) ?? {})
    .map(([name, value]) => ` ${name}=${JSON.stringify(value)}`)
    .join("");
  return `${data.message ?? data.error ?? ""}${fields}`;
}

/** Compare what has been received with the log, on request. */
function LogCheck({ id, events }: { id: string; events: readonly RunEvent[] }) {
  const [found, setFound] = useState<Comparison | null>(null);
  const check = async () => {
    const { logs = [] } = await get<RunDocument>(`api/v1/executions/${id}?include_logs=true`);
    setFound(compared(events, logs as unknown as RunEvent[]));
  };
  return (
    <div className="card-head wrap">
      <Command run={check}>Compare with the log</Command>
      {found ? (
        <span
          className={found.missing || found.doubled || found.displaced ? "log-error" : "muted"}
          role="status"
        >
          missing {found.missing} · doubled {found.doubled} of {found.events} ·{" "}
          {found.displaced ? `${found.displaced} out of order` : "in order"}
        </span>
      ) : (
        <span className="muted hide-narrow">A row shows the run at that event.</span>
      )}
    </div>
  );
}

interface EventsProps {
  id: string;
  events: readonly RunEvent[];
  count: number;
  isLive: boolean;
  onSeek: (count: number) => void;
}

export function EventsList({ id, events, count, isLive, onSeek }: EventsProps) {
  // biome-ignore lint/correctness/useExhaustiveDependencies: the events grow in place
  const all = useMemo(() => [...events], [events, events.length, count]);
  return (
    <div className="card panel" style={{ gridTemplateRows: "auto auto minmax(0, 1fr)" }}>
      <LogCheck id={id} events={events} />
      <div className="vhead events-cols">
        <span>No.</span>
        <span className="hide-narrow">Time</span>
        <span>Event</span>
        <span>Step</span>
        <span className="hide-narrow">What it says</span>
      </div>
      <VirtualList items={all} rowHeight={28} label="Events" follow={isLive}>
        {(event, index) => (
          <button
            type="button"
            className="vrow events-cols"
            data-selected={index + 1 === count || undefined}
            title="Show the run at this event"
            onClick={() => onSeek(index + 1)}
          >
            <span className="muted">{index + 1}</span>
            <code className="muted hide-narrow">{clock(event.timestamp, true)}</code>
            <code className="clip">{event.type}</code>
            <code className="clip">{String(event.data.node_id ?? "")}</code>
            <span className="clip muted hide-narrow">{gistOf(event)}</span>
          </button>
        )}
      </VirtualList>
    </div>
  );
}

export function gistOf({ type, data }: RunEvent): string {
  if (data.error) return String(data.error);
  if (data.message) return String(data.message);
  if (type === "step:waiting") return `${data.wait ?? "time"} ${data.reason ?? ""}`;
  if (type === "step:started") return `attempt ${data.attempt}`;
  if (type === "step:completed")
    return `${duration(data.duration_ms as number)} · ${brief(data.output)}`;
  if (type === "step:expanded") return `${(data.items as unknown[]).length} items`;
  if (type === "command:requested") {
    return [data.command, data.decision, data.actor && `by ${data.actor}`]
      .filter(Boolean)
      .join(" ");
  }
  return brief(data.input ?? data.reason ?? data.status);
}

const brief = (value: unknown): string => (JSON.stringify(value) ?? "").slice(0, 160);
