import { progressOf } from "@tailrace/client";
import { useQuery } from "@tanstack/react-query";
import { lazy, type ReactNode, Suspense, useEffect, useMemo, useState } from "react";
import { get, post } from "../data/api.ts";
import { useMay } from "../data/me.tsx";
import { useNow, useOwned, useStore } from "../data/store.ts";
import type {
  GraphDocument,
  NodeStatistics,
  WorkflowDetails,
  WorkflowDocument,
} from "../data/types.ts";
import { go, href, Link, usePlace, withQuery } from "../router.tsx";
import { isEnded, nodeOf, pendingStep, type RunState, type Step, titleOf } from "../run/fold.ts";
import { Gantt } from "../run/Gantt.tsx";
import { EventsList, LogsList, StepsList } from "../run/lists.tsx";
import { RerunSheet } from "../run/RerunSheet.tsx";
import { RunStore } from "../run/runStore.ts";
import { Scrubber } from "../run/Scrubber.tsx";
import { StepPanel } from "../run/StepPanel.tsx";
import { whyOf } from "../run/why.ts";
import { Field } from "../ui/fields.tsx";
import { count, duration, moment } from "../ui/format.ts";
import * as icons from "../ui/icons.tsx";
import { JsonView } from "../ui/json.tsx";
import { Command, Empty, Loading, Sheet, toast } from "../ui/parts.tsx";
import { Pill } from "../ui/status.tsx";

const GraphView = lazy(() => import("../run/GraphView.tsx"));

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
  const store = useOwned(() => new RunStore(id, Number(query.get("at")) || null), id);
  const view = useStore(store.view);
  const { run } = view;
  const known = useKnown(run);
  const tab = (TABS.find((each) => each === query.get("tab")) ?? "graph") as Tab;
  const selected = query.get("step");
  const select = useMemo(
    () => (step: string | null) => go(withQuery({ step: step ?? "" }), true),
    [],
  );
  const steps = useMemo(() => listed(known.graph, run), [known.graph, run]);
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
  const event = store.history.events[view.at - 1];
  const timeline = (isShort = false) => (
    <Gantt
      run={run}
      moment={view.isLive ? null : Date.parse(event?.timestamp ?? "")}
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
            <Suspense fallback={<Loading />}>
              <GraphView graph={known.graph} store={store} selected={selected} onSelect={select} />
            </Suspense>
          </div>
          {timeline(true)}
        </div>
      ) : (
        <div className="card">
          {known.isGone ? (
            <Empty title="This version of the workflow is gone">
              <span>The steps and events of the run are still here.</span>
            </Empty>
          ) : (
            <Loading />
          )}
        </div>
      ),
    timeline: () => timeline(),
    steps: () => <StepsList steps={steps} selected={selected} onSelect={select} />,
    logs: () => (
      <LogsList
        events={store.history.events}
        count={view.at}
        isLive={view.isLive}
        selected={selected}
      />
    ),
    events: () => (
      <EventsList
        id={id}
        events={store.history.events}
        count={view.at}
        isLive={view.isLive}
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
  const why = <WhyLine run={run} usual={known.usual} select={select} isLive={view.isLive} />;
  const hasWhy = whyOf(run, known.usual, Date.now()) !== null;
  const counts: Partial<Record<Tab, number>> = { steps: steps.length, events: view.total };
  return (
    <div className={`page full run ${hasWhy ? "" : "calm"}`}>
      <RunHead run={run} graph={known.graph} at={view.isLive ? null : view.at} />
      {why}
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
function useKnown(run: RunState) {
  const { workflow_id, version } = run;
  const enabled = workflow_id !== "";
  const path = `api/v1/workflows/${workflow_id}`;
  const forever = Number.POSITIVE_INFINITY;
  const graph = useQuery({
    queryKey: ["graph", workflow_id, version],
    queryFn: () => get<GraphDocument>(`${path}/graph?version=${version}`),
    enabled,
    staleTime: forever,
  });
  const definition = useQuery({
    queryKey: ["workflow", workflow_id, version],
    queryFn: () => get<WorkflowDocument>(`${path}?version=${version}`),
    enabled,
    staleTime: forever,
  });
  const stats = useQuery({
    queryKey: ["stats", workflow_id],
    queryFn: () => get<WorkflowDetails>(`${path}/stats`),
    enabled,
    staleTime: 60_000,
  });
  const usual = useMemo(
    () => new Map<string, NodeStatistics>(stats.data?.nodes.map((node) => [node.node_id, node])),
    [stats.data],
  );
  return {
    graph: graph.data ?? null,
    isGone: graph.isError,
    definition: definition.data?.definition,
    usual,
  };
}

/** All steps in the order of the definition, the items of a map after their map. */
function listed(graph: GraphDocument | null, run: RunState): Step[] {
  const found: Step[] = [];
  const shown = new Set<string>();
  const nodes = new Map(graph?.nodes.map((node) => [node.id, node]));
  for (const id of graph?.layers.flat() ?? []) {
    const own = run.steps.get(id) ?? pendingStep(id, nodes.get(id)?.type, nodes.get(id)?.name);
    for (const each of [own, ...itemsOf(own, run)]) {
      found.push(each);
      shown.add(each.node_id);
    }
  }
  for (const step of run.steps.values()) if (!shown.has(step.node_id)) found.push(step);
  return found;
}

function itemsOf(step: Step, run: RunState): Step[] {
  return Array.from({ length: step.items ?? 0 }, (_, index) => {
    const id = `${step.node_id}[${index}]`;
    return run.steps.get(id) ?? pendingStep(id, "", id);
  });
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

function RunHead(props: { run: RunState; graph: GraphDocument | null; at: number | null }) {
  const { run, graph, at } = props;
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
    navigator.clipboard.writeText(link.href).then(() => toast("The link to this moment is copied"));
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
        <a className="btn" href={href("compare", run.execution_id)}>
          <icons.Compare /> Compare
        </a>
        {!may ? null : ended ? (
          <button type="button" className="btn" onClick={() => setSheet("rerun")}>
            <icons.Again /> Rerun…
          </button>
        ) : (
          <>
            {run.held ? (
              <Command run={() => post(`${path}/resume`)} done="Resumed">
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
