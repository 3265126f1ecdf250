import { useMemo } from "react";
import type { GraphDocument, NodeStatistics } from "../data/types.ts";
import { useNow } from "../data/useStore.ts";
import { clock, duration, fitName } from "../ui/format.ts";
import { Empty } from "../ui/parts.tsx";
import { Glyph } from "../ui/status.tsx";
import { VirtualList } from "../ui/VirtualList.tsx";
import { isEnded, isItem, isSettled, nodeOf, type RunState, type Step, titleOf } from "./fold.ts";
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
        .filter((step) => step.started_at && !(isShort && step.node_id.includes("[")))
        .sort((a, b) => ((a.started_at ?? "") < (b.started_at ?? "") ? -1 : 1)),
    [run, isShort],
  );
  const isOver = isEnded(run);
  const path = useMemo(
    () => (isOver && graph ? criticalPath(graph, run.steps) : new Set<string>()),
    [isOver, graph, run],
  );
  const start = Date.parse(run.started_at ?? run.created_at ?? "");
  const end = run.finished_at ? Date.parse(run.finished_at) : (moment ?? now);
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
        <span className="num">Took</span>
      </div>
      <VirtualList items={steps} rowHeight={28} label="Timeline">
        {(step) => {
          const begin = Date.parse(step.started_at ?? "");
          const over = step.completed_at && isSettled(step);
          const until = over ? Date.parse(step.completed_at ?? "") : end;
          const latency = usual.get(nodeOf(step.node_id))?.latency;
          const ghost = step.node_id.includes("[")
            ? usual.get(nodeOf(step.node_id))?.items
            : latency;
          return (
            <button
              type="button"
              className="vrow gantt-cols"
              data-selected={step.node_id === selected || undefined}
              title={hintOf(step, ghost)}
              onClick={() => onSelect(step.node_id)}
            >
              <span className={`row tight is-${step.status} ${isItem(step) ? "item" : ""}`}>
                <Glyph status={step.status} />
                <span className="clip">{fitName(titleOf(step))}</span>
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
                  className={`b is-${step.status} ${path.has(step.node_id) ? "critical" : ""}`}
                  style={{
                    left: at(begin),
                    width: `${Math.max(((until - begin) / span) * 100, 0.2)}%`,
                  }}
                />
              </span>
              <span className="num muted">{duration(over ? step.duration_ms : until - begin)}</span>
            </button>
          );
        }}
      </VirtualList>
    </div>
  );
}

function hintOf(step: Step, ghost: NodeStatistics["latency"] | undefined): string {
  const usual = ghost?.count
    ? `; usually ${duration(ghost.p50_ms)} (p50), ${duration(ghost.p90_ms)} (p90)`
    : "";
  return `${titleOf(step)} (${step.node_type}): ${step.status}, ${duration(step.duration_ms)}${usual}`;
}
