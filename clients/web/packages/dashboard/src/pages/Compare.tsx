import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { get } from "../data/api.ts";
import { useRunList } from "../data/hooks.ts";
import type { RunDocument, StepDocument } from "../data/types.ts";
import { go, href } from "../router.tsx";
import { count, duration, moment } from "../ui/format.ts";
import { Empty, Failure, Loading, Title } from "../ui/parts.tsx";
import { Pill, StatusWord } from "../ui/status.tsx";
import { VirtualList } from "../ui/VirtualList.tsx";

function useDocument(id: string) {
  return useQuery({
    queryKey: ["run", id],
    queryFn: () => get<RunDocument>(`api/v1/executions/${id}`),
    enabled: id !== "",
  });
}

interface Pair {
  id: string;
  name: string;
  a: StepDocument | undefined;
  b: StepDocument | undefined;
  delta: number | null;
  differs: boolean;
}

function pairsOf(a: RunDocument, b: RunDocument): Pair[] {
  const [left, right] = [a, b].map((run) => new Map(run.steps.map((step) => [step.node_id, step])));
  const ids = new Set([...(left?.keys() ?? []), ...(right?.keys() ?? [])]);
  return [...ids].map((id) => {
    const [one, two] = [left?.get(id), right?.get(id)];
    const both = one?.duration_ms != null && two?.duration_ms != null;
    return {
      id,
      name: (id.includes("[") ? id : (one ?? two)?.name) ?? id,
      a: one,
      b: two,
      delta: both ? (two.duration_ms ?? 0) - (one.duration_ms ?? 0) : null,
      differs:
        one?.status !== two?.status || JSON.stringify(one?.output) !== JSON.stringify(two?.output),
    };
  });
}

/** Two runs on one clock, node by node. */
export default function Compare({ first, second }: { first: string; second: string }) {
  const a = useDocument(first);
  const b = useDocument(second);
  const others = useRunList({ workflow: a.data?.workflow_id ?? "", limit: 50 });
  const pairs = useMemo(() => (a.data && b.data ? pairsOf(a.data, b.data) : []), [a.data, b.data]);
  const longest = Math.max(
    1,
    ...pairs.flatMap((pair) => [pair.a?.duration_ms ?? 0, pair.b?.duration_ms ?? 0]),
  );
  const changed = pairs.filter((pair) => pair.differs);
  const error = a.error ?? b.error;
  return (
    <div className="page full" style={{ gridTemplateRows: "auto auto minmax(0, 1fr)" }}>
      <Title>Compare two runs</Title>
      <div className="halves">
        <section className="card">
          <RunFacts title="First" run={a.data} />
        </section>
        <section className="card">
          <RunFacts title="Second" run={b.data} />
          {second && a.data ? null : (
            <div className="card-body field">
              <label htmlFor="other">Compare with</label>
              <select
                id="other"
                className="select"
                value=""
                onChange={(event) => go(href("compare", first, event.target.value))}
              >
                <option value="">choose a run of the same workflow</option>
                {others.data?.runs
                  .filter((run) => run.execution_id !== first)
                  .map((run) => (
                    <option key={run.execution_id} value={run.execution_id}>
                      {moment(run.created_at)} · {run.status} · {duration(run.duration_ms)}
                    </option>
                  ))}
              </select>
            </div>
          )}
        </section>
      </div>
      <div className="card panel">
        {error ? <Failure error={error} /> : null}
        {!error && (a.isLoading || b.isLoading) ? <Loading /> : null}
        {pairs.length ? (
          <>
            <div className="card-head">
              <h2>
                {changed.length
                  ? `${count(changed.length, "step differs", "steps differ")}`
                  : "All steps ended alike"}
              </h2>
              <span className="muted">
                {a.data && b.data && a.data.version !== b.data.version
                  ? `version ${a.data.version} and version ${b.data.version}`
                  : ""}
              </span>
            </div>
            <VirtualList items={pairs} rowHeight={36} label="Steps of both runs">
              {(pair) => (
                <div className="vrow cmp-cols" data-selected={pair.differs || undefined}>
                  <span className="clip strong">{pair.name}</span>
                  <span className="hide-narrow">
                    {pair.a ? <StatusWord status={pair.a.status} /> : "–"}
                  </span>
                  <span className="hide-narrow">
                    {pair.b ? <StatusWord status={pair.b.status} /> : "–"}
                  </span>
                  <span className="cmp-bars">
                    {[pair.a, pair.b].map((step, index) => (
                      <i
                        // biome-ignore lint/suspicious/noArrayIndexKey: first and second
                        key={index}
                        className={`is-${step?.status ?? "pending"}`}
                        style={{ width: `${((step?.duration_ms ?? 0) / longest) * 100}%` }}
                        title={duration(step?.duration_ms)}
                      />
                    ))}
                  </span>
                  <span className={pair.delta && pair.delta > 0 ? "diff-del" : "diff-add"}>
                    {pair.delta
                      ? `${pair.delta > 0 ? "+" : "−"}${duration(Math.abs(pair.delta))}`
                      : ""}
                    {!pair.delta && pair.differs ? "output" : ""}
                  </span>
                </div>
              )}
            </VirtualList>
          </>
        ) : null}
        {!second ? <Empty title="Choose the second run" /> : null}
      </div>
    </div>
  );
}

function RunFacts({ title, run }: { title: string; run: RunDocument | undefined }) {
  return (
    <div className="card-head wrap">
      <h2>{title}</h2>
      {run ? (
        <>
          <Pill status={run.status} />
          <a href={href("runs", run.execution_id)}>
            <code>{run.execution_id.slice(0, 18)}</code>
          </a>
          <span className="muted">
            {moment(run.started_at)} · {duration(run.duration_ms)}
          </span>
        </>
      ) : null}
    </div>
  );
}
