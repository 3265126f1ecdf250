import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { get } from "../data/api.ts";
import { useRunList } from "../data/hooks.ts";
import type { RunDocument, RunSummary, StepDocument } from "../data/types.ts";
import { go, href, usePlace, withQuery } from "../router.tsx";
import { Difference } from "../ui/Difference.tsx";
import { count, duration, moment } from "../ui/format.ts";
import * as icons from "../ui/icons.tsx";
import { Empty, Failure, Loading, Side, Title } from "../ui/parts.tsx";
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
  /** In what the steps differ beside their durations; empty if in nothing. */
  differs: "" | "status" | "output" | "error";
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
      differs: differenceOf(one, two),
    };
  });
}

function differenceOf(one: StepDocument | undefined, two: StepDocument | undefined) {
  if (one?.status !== two?.status) return "status";
  if (one?.error !== two?.error) return "error";
  return JSON.stringify(one?.output) === JSON.stringify(two?.output) ? "" : "output";
}

const spanOf = ({ started_at, finished_at, duration_ms }: RunDocument): number =>
  duration_ms ??
  (started_at ? Date.parse(finished_at ?? new Date().toISOString()) - Date.parse(started_at) : 0);

/** Two runs on one clock, node by node. */
export default function Compare({ first, second }: { first: string; second: string }) {
  const { query } = usePlace();
  const a = useDocument(first);
  const b = useDocument(second);
  const pairs = useMemo(() => (a.data && b.data ? pairsOf(a.data, b.data) : []), [a.data, b.data]);
  const error = a.error ?? b.error;
  const chosen = pairs.find(({ id }) => id === query.get("step"));
  return (
    <div className="page full" style={{ gridTemplateRows: "auto auto minmax(0, 1fr)" }}>
      <Title>Compare two runs</Title>
      <div className="halves">
        <section className="card">
          <RunFacts title="First" run={a.data} />
        </section>
        <section className="card">
          <RunFacts title="Second" run={b.data} />
          {second || !a.data ? null : <Others run={a.data} />}
        </section>
      </div>
      <div className={`run-body ${chosen ? "" : "alone"}`}>
        <div className={`card ${pairs.length ? "panel three" : ""}`}>
          {error ? <Failure error={error} /> : null}
          {!error && (a.isLoading || b.isLoading) ? <Loading /> : null}
          {a.data && b.data && pairs.length ? <Pairs a={a.data} b={b.data} pairs={pairs} /> : null}
          {second ? null : <Empty title="Choose the second run" />}
        </div>
        {chosen ? (
          <Side
            title={<h2 className="clip">{chosen.name}</h2>}
            close="Close the step"
            label={`Differences of ${chosen.id}`}
            onClose={() => go(withQuery({ step: "" }), true)}
          >
            <Facts pair={chosen} />
            <Difference title="Output" first={shownOf(chosen.a)} second={shownOf(chosen.b)} />
          </Side>
        ) : null}
      </div>
    </div>
  );
}

const shownOf = (step: StepDocument | undefined): unknown => step?.error || (step?.output ?? null);

function Pairs({ a, b, pairs }: { a: RunDocument; b: RunDocument; pairs: Pair[] }) {
  const { query } = usePlace();
  const span = Math.max(spanOf(a), spanOf(b), 1);
  const starts = [a, b].map((run) => Date.parse(run.started_at ?? run.created_at ?? ""));
  return (
    <>
      <div className="card-head wrap">
        <Summary a={a} b={b} pairs={pairs} />
      </div>
      <div className="vhead cmp-cols">
        <span>Step</span>
        <span className="hide-narrow">First</span>
        <span className="hide-narrow">Second</span>
        <span>On one clock</span>
        <span className="num">Change</span>
      </div>
      <VirtualList items={pairs} rowHeight={36} label="Steps of both runs">
        {(pair) => (
          <button
            type="button"
            className="vrow cmp-cols"
            data-row=""
            data-selected={pair.id === query.get("step") || undefined}
            onClick={() => go(withQuery({ step: pair.id }), true)}
          >
            <span className={`clip ${pair.differs ? "strong" : ""}`}>{pair.name}</span>
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
                  style={barOf(step, starts[index] ?? 0, span)}
                  title={duration(step?.duration_ms)}
                />
              ))}
            </span>
            <Change pair={pair} />
          </button>
        )}
      </VirtualList>
    </>
  );
}

function barOf(step: StepDocument | undefined, start: number, span: number) {
  if (!step?.started_at) return { width: 0, minWidth: 0 };
  const left = ((Date.parse(step.started_at) - start) / span) * 100;
  return {
    marginLeft: `${Math.min(Math.max(left, 0), 99)}%`,
    width: `${Math.min(((step.duration_ms ?? 0) / span) * 100, 100 - left)}%`,
  };
}

function Change({ pair }: { pair: Pair }) {
  const { delta, differs } = pair;
  return (
    <span className="num nowrap">
      {differs ? <strong className="diff-what">{differs}</strong> : null}{" "}
      {delta ? (
        <span className={delta > 0 ? "diff-del" : "diff-add"}>
          {delta > 0 ? "+" : "−"}
          {duration(Math.abs(delta))}
        </span>
      ) : null}
    </span>
  );
}

/** What changed, in one line: inputs, versions, steps, and how long the runs took. */
function Summary({ a, b, pairs }: { a: RunDocument; b: RunDocument; pairs: Pair[] }) {
  const changed = pairs.filter((pair) => pair.differs);
  const hasInput = JSON.stringify(a.input) !== JSON.stringify(b.input);
  const delta = spanOf(b) - spanOf(a);
  const slower = [...pairs].sort((one, two) => (two.delta ?? 0) - (one.delta ?? 0))[0];
  return (
    <>
      <h2>
        {changed.length
          ? count(changed.length, "step differs", "steps differ")
          : "All steps ended alike"}
      </h2>
      <span className="muted">
        {[
          hasInput ? "the inputs differ" : "the same input",
          a.version === b.version
            ? `version ${a.version}`
            : `version ${a.version} and version ${b.version}`,
          `the second took ${duration(Math.abs(delta))} ${delta > 0 ? "more" : "less"}`,
          delta > 0 && slower?.delta && slower.delta > 0 ? `most of it in ${slower.name}` : "",
        ]
          .filter(Boolean)
          .join(" · ")}
      </span>
      {hasInput ? (
        <details className="whole">
          <summary>Show the inputs</summary>
          <Difference title="" first={a.input} second={b.input} />
        </details>
      ) : null}
    </>
  );
}

function Facts({ pair }: { pair: Pair }) {
  return (
    <dl className="facts">
      {(["a", "b"] as const).map((side) => (
        <div key={side} style={{ display: "contents" }}>
          <dt>{side === "a" ? "First" : "Second"}</dt>
          <dd>
            {pair[side] ? (
              <>
                <StatusWord status={pair[side].status} /> {duration(pair[side].duration_ms)}
              </>
            ) : (
              "not in this run"
            )}
          </dd>
        </div>
      ))}
    </dl>
  );
}

/** Runs to compare with: the one before is a click away. */
function Others({ run }: { run: RunDocument }) {
  const found = useRunList({ workflow: run.workflow_id, limit: 50 });
  const others = (found.data?.runs ?? []).filter((each) => each.execution_id !== run.execution_id);
  const before = others.find((each) => (each.created_at ?? "") < (run.created_at ?? ""));
  const choose = (id: string) => go(href("compare", run.execution_id, id));
  return (
    <div className="card-body row tight wrap">
      {before ? (
        <button type="button" className="btn primary" onClick={() => choose(before.execution_id)}>
          <icons.Compare /> The run before: {wordsOf(before)}
        </button>
      ) : null}
      <select
        className="select"
        aria-label="Compare with"
        value=""
        onChange={(event) => choose(event.target.value)}
      >
        <option value="">another run of this workflow</option>
        {others.map((each) => (
          <option key={each.execution_id} value={each.execution_id}>
            {wordsOf(each)}
          </option>
        ))}
      </select>
    </div>
  );
}

const wordsOf = (run: RunSummary): string =>
  [moment(run.created_at), run.status, run.duration_ms === null ? "" : duration(run.duration_ms)]
    .filter(Boolean)
    .join(" · ");

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
