import { useMemo } from "react";
import { useNow } from "../data/store.ts";
import type { GraphDocument, NodeStatistics } from "../data/types.ts";
import { clock, duration, fitName } from "../ui/format.ts";
import { Empty } from "../ui/parts.tsx";
import { Glyph } from "../ui/status.tsx";
import { VirtualList } from "../ui/VirtualList.tsx";
import { isEnded, isSettled, type RunState, type Step } from "./fold.ts";
import { criticalPath } from "./why.ts";

interface Props {
  run: RunState;
  /** The moment that is shown, in Unix ms; null for now. */
  moment: number | null;
  graph: GraphDocument | null;
  usual: ReadonlyMap<string, NodeStatistics>;
  selected: string | null;
  onSelect: (id: string) => void;
  /** Leave out the items of maps. */
  isShort?: boolean;
}

export function Gantt({ run, moment, graph, usual, selected, onSelect, isShort }: Props) {
  const now = useNow();
  const steps = useMemo(
    () =>
      [...run.steps.values()]
        .filter((step) => step.startedAt && !(isShort && step.id.includes("[")))
        .sort((a, b) => (a.startedAt ?? "").localeCompare(b.startedAt ?? "")),
    [run, isShort],
  );
  const isOver = isEnded(run.status);
  const path = useMemo(
    () => (isOver && graph ? criticalPath(graph, run.steps) : new Set<string>()),
    [isOver, graph, run],
  );
  const start = Date.parse(run.startedAt ?? run.createdAt ?? "");
  const end = run.finishedAt ? Date.parse(run.finishedAt) : (moment ?? now);
  const span = Math.max(end - start, 20) * 1.02;
  const at = (time: number) => `${Math.min(Math.max(((time - start) / span) * 100, 0), 100)}%`;
  if (!steps.length) return <Empty title="No step has begun" />;
  return (
    <div className="card panel">
      <div className="vhead gantt-cols">
        <span>Step</span>
        <span className="axis" aria-hidden="true">
          {[0, 0.25, 0.5, 0.75, 1].map((part) => (
            <span key={part} style={{ left: `${part * 100}%` }}>
              {part ? `+${duration(span * part)}` : clock(start)}
            </span>
          ))}
        </span>
        <span>Took</span>
      </div>
      <VirtualList items={steps} rowHeight={28} label="Timeline">
        {(step) => {
          const begin = Date.parse(step.startedAt ?? "");
          const over = step.completedAt && isSettled(step.status);
          const until = over ? Date.parse(step.completedAt ?? "") : end;
          const latency = usual.get(step.id.replace(/\[\d+\]$/, ""))?.latency;
          const ghost = step.id.includes("[")
            ? usual.get(step.id.replace(/\[\d+\]$/, ""))?.items
            : latency;
          return (
            <button
              type="button"
              className="vrow gantt-cols"
              data-selected={step.id === selected || undefined}
              title={titleOf(step, ghost)}
              onClick={() => onSelect(step.id)}
            >
              <span className={`row tight is-${step.status}`} style={{ minWidth: 0 }}>
                <Glyph status={step.status} />
                <span className="clip">{step.id.includes("[") ? step.id : fitName(step.name)}</span>
              </span>
              <span className="lane">
                {ghost?.p90_ms ? (
                  <span
                    className="ghost"
                    style={{
                      left: at(begin),
                      width: `${Math.min((ghost.p90_ms / span) * 100, 100)}%`,
                    }}
                  />
                ) : null}
                {ghost?.p50_ms ? (
                  <span className="mid" style={{ left: at(begin + ghost.p50_ms) }} />
                ) : null}
                <span
                  className={`b is-${step.status} ${path.has(step.id) ? "critical" : ""}`}
                  style={{
                    left: at(begin),
                    width: `${Math.max(((until - begin) / span) * 100, 0.2)}%`,
                  }}
                />
              </span>
              <span className="muted">{duration(over ? step.durationMs : until - begin)}</span>
            </button>
          );
        }}
      </VirtualList>
    </div>
  );
}

function titleOf(step: Step, ghost: NodeStatistics["latency"] | undefined): string {
  const usual = ghost?.count
    ? `; usually ${duration(ghost.p50_ms)} (p50), ${duration(ghost.p90_ms)} (p90)`
    : "";
  return `${step.name} (${step.type}): ${step.status}, ${duration(step.durationMs)}${usual}`;
}
