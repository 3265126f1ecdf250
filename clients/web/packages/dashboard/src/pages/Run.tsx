import { progressOf } from "@tailrace/client";
import { useQuery } from "@tanstack/react-query";
import { type ReactNode, useDeferredValue, useEffect, useMemo, useState } from "react";
import { get, Problem, post } from "../data/api.ts";
import { useMay } from "../data/me.tsx";
import type {
  GraphDocument,
  NodeStatistics,
  WorkflowDetails,
  WorkflowDocument,
} from "../data/types.ts";
import { useNow, useOwned, useStore } from "../data/useStore.ts";
import { go, href, Link, usePlace, withQuery } from "../router.tsx";
import { isEnded, nodeOf, pendingStep, type RunState, type Step, titleOf } from "../run/fold.ts";
import { Gantt } from "../run/Gantt.tsx";
import GraphView from "../run/GraphView.tsx";
import { graphOf } from "../run/graph.ts";
import { EventsList, LogsList, StepsList } from "../run/lists.tsx";
import { storeOf } from "../run/opened.ts";
import { RerunSheet } from "../run/RerunSheet.tsx";
import type { RunStore } from "../run/runStore.ts";
import { Scrubber } from "../run/Scrubber.tsx";
import { StepPanel } from "../run/StepPanel.tsx";
import { whyOf } from "../run/why.ts";
import { copy } from "../ui/copy.ts";
import { Field } from "../ui/fields.tsx";
import { count, duration, moment } from "../ui/format.ts";
import * as icons from "../ui/icons.tsx";
import { JsonView } from "../ui/json.tsx";
import { Command, Empty, Failure, Loading, Sheet } from "../ui/parts.tsx";
import { Pill } from "../ui/status.tsx";

const TABS = ["graph", "timeline", "steps", "logs", "events", "data", "definition"] as const;
type Tab = (typeof TABS)[number];

const NAMES: Record<Tab, string> = {
  graph: "Graph",
  timeline: "Timeline",
  steps: "Steps",
  logs: "Logs",
  events: "Events",
  data: "Input / output",
  definition: "Definition",
};

export default function RunPage({ id }: { id: string }) {
  const { query } = usePlace();
  const store = useOwned(() => storeOf(id, query), id);
  const view = useStore(store.view);
  const { run } = view;
  const tab = (TABS.find((each) => each === query.get("tab")) ?? "graph") as Tab;
  const selected = query.get("step");
  const known = useKnown(run, tab === "definition" || selected !== null);
  // Large parts are rendered in slices: a store's value would be rendered at once.
  const calm = useDeferredValue(view);
  const select = useMemo(
    () => (step: string | null) => go(withQuery({ step: step ?? "" }), true),
    [],
  );
  const size = useMemo(() => sizeOf(known.graph, calm.run), [known.graph, calm.run]);
  const chosen = selected ? (run.steps.get(selected) ?? named(known.graph, selected)) : null;
  useEffect(() => {
    document.title = run.workflow_name ? `${run.workflow_name} · Tailrace` : "Run · Tailrace";
  }, [run.workflow_name]);
  if (view.phase === "missing") return <Missing id={id} />;
  if (view.phase === "loading" && !view.total) {
    return (
      <div className="page">
        <Loading rows={8} />
      </div>
    );
  }
  const event = store.history.events[calm.at - 1];
  const timeline = (isShort = false) => (
    <Gantt
      run={calm.run}
      moment={calm.isLive ? null : Date.parse(event?.timestamp ?? "")}
      graph={known.graph}
      usual={known.usual}
      selected={selected}
      onSelect={select}
      isShort={isShort}
    />
  );
  const body: Record<Tab, () => ReactNode> = {
    graph: () =>
      known.graph ? (
        <div className="graph-and-time">
          <div className="card">
            <GraphView graph={known.graph} store={store} selected={selected} onSelect={select} />
          </div>
          {timeline(true)}
        </div>
      ) : (
        <div className="card">
          {known.isGone ? (
            <Empty title="This version of the workflow is gone">
              <span>The steps and events of the run are still here.</span>
            </Empty>
          ) : known.problem ? (
            <Failure error={known.problem} retry={known.retry} />
          ) : (
            <Loading />
          )}
        </div>
      ),
    timeline: () => timeline(),
    steps: () => (
      <StepsList graph={known.graph} run={calm.run} selected={selected} onSelect={select} />
    ),
    logs: () => (
      <LogsList
        events={store.history.events}
        count={calm.at}
        isLive={calm.isLive}
        selected={selected}
      />
    ),
    events: () => (
      <EventsList
        id={id}
        events={store.history.events}
        count={calm.at}
        isLive={calm.isLive}
        onSeek={(to) => store.seek(to)}
      />
    ),
    data: () => (
      <div className="halves" style={{ overflow: "auto" }}>
        <section className="card">
          <h2>Input</h2>
          <JsonView value={run.input} label="Input" />
        </section>
        <section className="card">
          <h2>Output</h2>
          {isEnded(run) ? (
            <JsonView value={run.error ?? run.output} label="Output" />
          ) : (
            <Empty title="Not yet">The output appears when the run ends.</Empty>
          )}
        </section>
      </div>
    ),
    definition: () => (
      <section className="card" style={{ overflow: "auto" }}>
        <h2>
          Version {run.version}
          <span className="grow" />
          <a href={href("workflows", run.workflow_id)}>Open the workflow</a>
        </h2>
        <JsonView value={known.definition ?? null} label="Definition" />
      </section>
    ),
  };
  const counts: Partial<Record<Tab, number>> = { steps: size, events: view.total };
  return (
    <div className="page full run">
      <RunHead store={store} run={run} graph={known.graph} at={view.isLive ? null : view.at} />
      <WhyLine run={calm.run} usual={known.usual} select={select} isLive={view.isLive} />
      <nav className="tabs" aria-label="Views of the run">
        {TABS.map((each) => (
          <Link
            key={each}
            href={withQuery({ tab: each === "graph" ? "" : each })}
            current={each === tab}
          >
            {NAMES[each]} {counts[each] ? <small>{counts[each].toLocaleString("en")}</small> : null}
          </Link>
        ))}
      </nav>
      <div className={`run-body ${chosen ? "" : "alone"}`}>
        {body[tab]()}
        {chosen ? (
          <StepPanel
            run={run}
            step={chosen}
            definition={known.definition}
            usual={known.usual}
            isLive={view.isLive}
            onClose={() => select(null)}
          />
        ) : null}
      </div>
      <Scrubber store={store} />
    </div>
  );
}

/** What the run's workflow says: its graph, its definition, and how long its steps usually take. */
function useKnown(run: RunState, needsDefinition: boolean) {
  const { workflow_id, version } = run;
  const enabled = workflow_id !== "";
  const path = `api/v1/workflows/${workflow_id}`;
  const forever = Number.POSITIVE_INFINITY;
  const graph = useQuery(graphOf(run));
  const definition = useQuery({
    queryKey: ["workflow", workflow_id, version],
    queryFn: () => get<WorkflowDocument>(`${path}?version=${version}`),
    enabled: enabled && needsDefinition,
    staleTime: forever,
  });
  const stats = useQuery({
    queryKey: ["stats", workflow_id],
    queryFn: () => get<WorkflowDetails>(`${path}/stats`),
    // After the graph: a large workflow has a large answer, and nothing waits for it.
    enabled: enabled && graph.isFetched,
    staleTime: 60_000,
  });
  const usual = useMemo(
    () => new Map<string, NodeStatistics>(stats.data?.nodes.map((node) => [node.node_id, node])),
    [stats.data],
  );
  return {
    graph: graph.data ?? null,
    isGone: graph.error instanceof Problem && graph.error.status === 404,
    problem: graph.error,
    retry: () => void graph.refetch(),
    definition: definition.data?.definition,
    usual,
  };
}

/** Return how many steps a run has, with those that have not begun and the items of maps. */
function sizeOf(graph: GraphDocument | null, run: RunState): number {
  let items = 0;
  for (const step of run.steps.values()) items += step.items ?? 0;
  return graph ? graph.nodes.length + items : run.steps.size;
}

function named(graph: GraphDocument | null, id: string): Step | null {
  const node = graph?.nodes.find((each) => each.id === nodeOf(id));
  return node ? pendingStep(id, node.type, node.name) : null;
}

function Missing({ id }: { id: string }) {
  return (
    <div className="page">
      <div className="card">
        <Empty title="There is no such run here">
          <span>
            <code>{id}</code> is unknown in this organization, or its history has expired.
          </span>
          <a className="btn" href="#/runs">
            All runs
          </a>
        </Empty>
      </div>
    </div>
  );
}

/** Save the run as it is now; what makes the file is loaded only for this. */
async function saveRun(store: RunStore, graph: GraphDocument): Promise<void> {
  const { save } = await import("../saved/save.ts");
  await save(store.history.events, graph);
}

interface HeadProps {
  store: RunStore;
  run: RunState;
  graph: GraphDocument | null;
  at: number | null;
}

function RunHead({ store, run, graph, at }: HeadProps) {
  const now = useNow();
  const [sheet, setSheet] = useState<"rerun" | "cancel" | null>(null);
  const may = useMay("executions:write");
  const ended = isEnded(run);
  const since = run.started_at ?? run.created_at;
  const progress = graph && run.status === "running" ? progressOf(run, graph.nodes.length) : null;
  const took = ended ? run.duration_ms : now - Date.parse(since ?? "");
  const path = `api/v1/executions/${run.execution_id}`;
  const share = () => {
    const link = new URL(location.href);
    link.hash = withQuery({ at: at ? String(at) : "" }).slice(1);
    void copy(link.href, "The link to this moment is copied");
  };
  return (
    <header className="run-head">
      <div className="row wrap">
        <h1>{run.workflow_name || run.workflow_id}</h1>
        <Pill status={run.status ?? "queued"} />
      </div>
      <span className="row tight wrap push">
        <button
          type="button"
          className="btn icon"
          aria-label="Copy a link to this moment"
          title="Copy a link to this moment"
          onClick={share}
        >
          <icons.Link2 />
        </button>
        {graph ? (
          <Command
            run={() => saveRun(store, graph)}
            className="icon"
            label="Save the run as a file"
            title="Save the run as a file that plays without a server"
          >
            <icons.Save />
          </Command>
        ) : null}
        <a
          className="btn"
          aria-label="Compare"
          href={
            run.rerun_of
              ? href("compare", run.rerun_of, run.execution_id)
              : href("compare", run.execution_id)
          }
        >
          <icons.Compare /> <span className="hide-narrow">Compare</span>
        </a>
        {!may ? null : ended ? (
          <button type="button" className="btn" onClick={() => setSheet("rerun")}>
            <icons.Again /> Rerun…
          </button>
        ) : (
          <>
            {run.held ? (
              <Command run={() => post(`${path}/resume`, { only_paused: true })} done="Resumed">
                <icons.Play /> Resume
              </Command>
            ) : (
              <Command run={() => post(`${path}/pause`)} done="Paused: running steps finish">
                <icons.Pause /> Pause
              </Command>
            )}
            <button type="button" className="btn danger" onClick={() => setSheet("cancel")}>
              <icons.Stop /> Cancel…
            </button>
          </>
        )}
      </span>
      <div className="meta muted">
        <code title={run.execution_id}>{run.execution_id.slice(0, 18)}</code>
        <span>
          version {run.version} · started {moment(since)} · {duration(took)}
          {progress !== null && !ended ? ` · ${Math.floor(progress)} %` : ""}
          {run.eta_ms && run.status === "running" ? ` · about ${duration(run.eta_ms)} left` : ""}
        </span>
        {run.rerun_of ? (
          <a href={href("compare", run.rerun_of, run.execution_id)}>
            rerun of {run.rerun_of.slice(0, 8)}
          </a>
        ) : null}
        {run.parent ? <a href={href("runs", run.parent.execution_id)}>parent run</a> : null}
      </div>
      {sheet === "rerun" ? (
        <RerunSheet run={run} graph={graph} onClose={() => setSheet(null)} />
      ) : null}
      {sheet === "cancel" ? <CancelSheet run={run} onClose={() => setSheet(null)} /> : null}
    </header>
  );
}

function CancelSheet({ run, onClose }: { run: RunState; onClose: () => void }) {
  const [reason, setReason] = useState("");
  const open = [...run.steps.values()].filter(
    (step) => !["success", "error", "skipped", "cancelled"].includes(step.status),
  );
  const cancel = async () => {
    await post(`api/v1/executions/${run.execution_id}/cancel`, reason ? { reason } : {});
    onClose();
  };
  return (
    <Sheet
      title="Cancel this run?"
      onClose={onClose}
      foot={
        <>
          <button type="button" className="btn" onClick={onClose}>
            Keep it
          </button>
          <Command run={cancel} done="Cancelled" className="danger">
            Cancel the run
          </Command>
        </>
      }
    >
      <p>
        {count(open.length, "step")} that {open.length === 1 ? "has" : "have"} begun will be
        cancelled, no further one starts. What succeeded is kept; a rerun can go on from there.
      </p>
      <Field
        label="Reason, for the log"
        value={reason}
        onChange={(text) => setReason(text.slice(0, 500))}
      />
    </Sheet>
  );
}

interface WhyProps {
  run: RunState;
  usual: ReadonlyMap<string, NodeStatistics>;
  select: (id: string | null) => void;
  isLive: boolean;
}

function WhyLine({ run, usual, select, isLive }: WhyProps) {
  const now = useNow();
  const may = useMay("executions:write");
  const why = whyOf(run, usual, now);
  if (!why) return null;
  const { step } = why;
  return (
    <div className={`why is-${why.status}`}>
      <b>{why.question}</b>
      <span>
        {step ? <strong>{titleOf(step)}</strong> : null} {why.answer}
      </span>
      <span className="grow" />
      {step && why.action === "decide" && isLive && may ? (
        <button type="button" className="btn primary" onClick={() => select(step.node_id)}>
          Decide…
        </button>
      ) : step ? (
        <button type="button" className="btn" onClick={() => select(step.node_id)}>
          Show the step
        </button>
      ) : null}
    </div>
  );
}
