import { useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useState } from "react";
import { every, get } from "../data/api.ts";
import { useRunList } from "../data/hooks.ts";
import { useVersions, useWorkflow } from "../data/queries.ts";
import type { GraphDocument, Version, WorkflowDetails } from "../data/types.ts";
import { go, Link, usePlace, withQuery } from "../router.tsx";
import GraphView from "../run/GraphView.tsx";
import { Difference } from "../ui/Difference.tsx";
import { count, duration, moment, percent } from "../ui/format.ts";
import { JsonView } from "../ui/json.tsx";
import { Empty, Failure, Loading, Side, Title } from "../ui/parts.tsx";
import { Table } from "../ui/tables.tsx";
import { RunTable } from "./Runs.tsx";
import { StartButton } from "./starting.tsx";
import { type Changes, changesOf, ordered, pairOf } from "./versions.ts";

const Editor = lazy(() => import("./Editor.tsx"));

const TABS: [string, string][] = [
  ["", "Graph"],
  ["runs", "Runs"],
  ["nodes", "Nodes"],
  ["definition", "Definition"],
  ["versions", "Versions"],
];

export default function Workflow({ id }: { id: string }) {
  return id === "new" ? <NewWorkflow /> : <KnownWorkflow id={id} />;
}

function KnownWorkflow({ id }: { id: string }) {
  const { query } = usePlace();
  const tab = query.get("tab") ?? "";
  const found = useWorkflow(id);
  if (found.isError) {
    return (
      <div className="page">
        <div className="card">
          <Failure error={found.error} />
        </div>
      </div>
    );
  }
  const definition = found.data?.definition;
  return (
    <div className="page full" style={{ gridTemplateRows: "auto auto auto minmax(0, 1fr)" }}>
      <Title aside={<StartButton workflow={id}>Start a run</StartButton>}>
        {found.data?.name ?? id}
      </Title>
      <p className="muted">
        {found.data && definition
          ? `Version ${found.data.version} · ${count(Object.keys(definition.nodes).length, "node")}`
          : ""}
        {definition?.description ? ` · ${definition.description}` : ""}
      </p>
      <nav className="tabs" aria-label="Views of the workflow">
        {TABS.map(([each, name]) => (
          <Link key={each} href={withQuery({ tab: each, node: "" })} current={each === tab}>
            {name}
          </Link>
        ))}
      </nav>
      {tab === "" ? <Drawing id={id} /> : null}
      {tab === "runs" ? <WorkflowRuns id={id} /> : null}
      {tab === "nodes" ? <Nodes id={id} /> : null}
      {tab === "versions" ? <Versions id={id} /> : null}
      {tab === "definition" && definition ? (
        <Suspense fallback={<Loading />}>
          <Editor id={id} initial={definition} />
        </Suspense>
      ) : null}
    </div>
  );
}

function Drawing({ id }: { id: string }) {
  const { query } = usePlace();
  const node = query.get("node");
  const version = query.get("version") ?? "";
  const workflow = useWorkflow(id, version || undefined);
  const graph = useQuery({
    queryKey: ["graph", id, version || "newest", workflow.data?.version],
    queryFn: () =>
      get<GraphDocument>(`api/v1/workflows/${id}/graph${version ? `?version=${version}` : ""}`),
  });
  const versions = useVersions(id);
  const [select] = useState(() => (chosen: string) => go(withQuery({ node: chosen }), true));
  const definition = node ? workflow.data?.definition.nodes[node] : undefined;
  return (
    <div className={`run-body ${definition ? "" : "alone"}`}>
      <div className="card" style={{ minHeight: 320 }}>
        {versions.data && versions.data.versions.length > 1 ? (
          <div className="card-head over">
            <VersionChoice
              label="Version of the graph"
              versions={versions.data.versions}
              value={version || String(workflow.data?.version ?? "")}
              onChange={(chosen) => go(withQuery({ version: chosen, node: "" }), true)}
            />
          </div>
        ) : null}
        <Suspense fallback={<Loading />}>
          {graph.isError ? (
            <Failure error={graph.error} />
          ) : graph.data ? (
            <GraphView graph={graph.data} store={null} selected={node} onSelect={select} />
          ) : (
            <Loading />
          )}
        </Suspense>
      </div>
      {definition ? (
        <Side
          title={<h2 className="clip">{definition.name ?? node}</h2>}
          close="Close the node"
          onClose={() => go(withQuery({ node: "" }), true)}
        >
          <JsonView value={definition} label="Node" />
        </Side>
      ) : null}
    </div>
  );
}

interface VersionProps {
  label: string;
  versions: readonly Version[];
  value: string;
  onChange: (version: string) => void;
}

function VersionChoice({ label, versions, value, onChange }: VersionProps) {
  return (
    <select
      className="select"
      aria-label={label}
      value={value}
      onChange={(event) => onChange(event.target.value)}
    >
      {versions.map((each) => (
        <option key={each.version} value={each.version}>
          Version {each.version} · {moment(each.created_at)}
          {each.author ? ` · ${each.author}` : ""}
        </option>
      ))}
    </select>
  );
}

/** What two versions differ in. */
function Versions({ id }: { id: string }) {
  const { query } = usePlace();
  const found = useVersions(id);
  const versions = found.data?.versions ?? [];
  const asked = { from: Number(query.get("from")), to: Number(query.get("to")) };
  const pair = pairOf(
    versions.map((each) => each.version),
    asked,
  );
  const [from, to] = pair ?? [0, 0];
  const first = useWorkflow(pair ? id : "", String(from));
  const second = useWorkflow(pair ? id : "", String(to));
  const error = found.error ?? first.error ?? second.error;
  const [one, two] = [first.data?.definition, second.data?.definition];
  return (
    <section className="card" style={{ overflow: "auto" }}>
      {error ? <Failure error={error} /> : null}
      {found.isPending && !error ? <Loading /> : null}
      {found.data && versions.length < 2 ? (
        <Empty title="One version so far">Each change of the definition stores another one.</Empty>
      ) : null}
      {versions.length > 1 ? (
        <div className="card-body row tight wrap">
          <VersionChoice
            label="From version"
            versions={versions}
            value={String(from || asked.from)}
            onChange={(chosen) => go(withQuery({ from: chosen, to: String(to) }), true)}
          />
          <VersionChoice
            label="To version"
            versions={versions}
            value={String(to || asked.to)}
            onChange={(chosen) => go(withQuery({ from: String(from), to: chosen }), true)}
          />
          {one && two ? <Summary changes={changesOf(one, two)} /> : null}
        </div>
      ) : null}
      {one && two ? <Difference title="" first={ordered(one)} second={ordered(two)} /> : null}
    </section>
  );
}

function Summary({ changes }: { changes: Changes }) {
  const parts = [
    ["added", changes.added],
    ["removed", changes.removed],
    ["changed", changes.changed],
  ] as const;
  const named = parts.filter(([, ids]) => ids.length);
  if (!named.length) return <span className="muted">No node differs.</span>;
  return (
    <span className="muted" role="note" aria-label="Nodes that differ">
      {named
        .map(
          ([word, ids]) =>
            `${count(ids.length, "node")} ${word}: ${ids.slice(0, 5).join(", ")}${ids.length > 5 ? " …" : ""}`,
        )
        .join(" · ")}
    </span>
  );
}

function WorkflowRuns({ id }: { id: string }) {
  const runs = useRunList({ workflow: id });
  return (
    <div className="card scroll-x" style={{ alignSelf: "start" }}>
      {runs.data?.runs.length ? <RunTable runs={runs.data.runs} names={new Map()} /> : null}
      {runs.data && !runs.data.runs.length ? (
        <Empty title="No runs yet">
          <pre>tailrace run {id}</pre>
        </Empty>
      ) : null}
      {runs.isPending ? <Loading /> : null}
    </div>
  );
}

function Nodes({ id }: { id: string }) {
  const stats = useQuery({
    queryKey: ["stats", id],
    queryFn: () => get<WorkflowDetails>(`api/v1/workflows/${id}/stats`),
    refetchInterval: every(5_000),
  });
  const slowest = Math.max(1, ...(stats.data?.nodes.map((node) => node.latency.p90_ms ?? 0) ?? []));
  return (
    <div className="card scroll-x" style={{ alignSelf: "start" }}>
      {stats.isError ? <Failure error={stats.error} /> : null}
      {stats.isPending ? <Loading /> : null}
      {stats.data ? (
        <Table
          columns={[
            "Node",
            "p90",
            ["p50", "num"],
            ["Succeeded", "num"],
            ["Failed", "num hide-narrow"],
            ["Retries", "num hide-narrow"],
            ["Skipped", "num hide-narrow"],
          ]}
        >
          {stats.data.nodes.map((node) => (
            <tr key={node.node_id}>
              <td className="clip">
                <span className="strong">{node.node_id}</span>{" "}
                <code className="muted hide-narrow">{node.node_type}</code>
              </td>
              <td>
                <span className="row tight">
                  <span className="bar" style={{ flex: 1 }}>
                    <i style={{ width: `${((node.latency.p90_ms ?? 0) / slowest) * 100}%` }} />
                  </span>
                  <span className="muted nowrap" style={{ minWidth: 62 }}>
                    {duration(node.latency.p90_ms)}
                  </span>
                </span>
              </td>
              <td className="num muted">{duration(node.latency.p50_ms)}</td>
              <td className="num">{percent(rate(node.succeeded, node.failed))}</td>
              <td className="num hide-narrow">{node.failed}</td>
              <td className="num muted hide-narrow">{node.retries}</td>
              <td className="num muted hide-narrow">{node.skipped}</td>
            </tr>
          ))}
        </Table>
      ) : null}
    </div>
  );
}

const rate = (good: number, bad: number) => (good + bad ? good / (good + bad) : null);

const TEMPLATE = {
  id: "hello",
  name: "Hello",
  input: { type: "object", required: ["name"], properties: { name: { type: "string" } } },
  nodes: {
    greet: { type: "transform", with: { value: "Hello, $" + "{input.name}" } },
    wait: { type: "delay", needs: ["greet"], with: { duration: "3s" } },
    shout: { type: "log", needs: ["wait"], with: { message: "$" + "{nodes.greet.output}!" } },
  },
};

function NewWorkflow() {
  return (
    <div className="page full" style={{ gridTemplateRows: "auto auto minmax(0, 1fr)" }}>
      <Title>New workflow</Title>
      <p className="muted">
        Nodes, what they need, and conditions. From a file:{" "}
        <code>tailrace apply workflow.yaml</code>
      </p>
      <Suspense fallback={<Loading />}>
        <Editor id={null} initial={TEMPLATE} />
      </Suspense>
    </div>
  );
}
