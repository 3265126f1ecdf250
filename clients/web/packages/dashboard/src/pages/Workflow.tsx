import { useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useState } from "react";
import { call, client, every, get, Problem, post } from "../data/api.ts";
import { useRunList } from "../data/hooks.ts";
import { Only } from "../data/me.tsx";
import { useWorkflow } from "../data/queries.ts";
import type { GraphDocument, WorkflowDetails } from "../data/types.ts";
import { go, href, Link, usePlace, withQuery } from "../router.tsx";
import { duration, percent } from "../ui/format.ts";
import { JsonView } from "../ui/json.tsx";
import { Empty, Failure, Loading, Side, Title, toast } from "../ui/parts.tsx";
import { Table } from "../ui/tables.tsx";
import { RunTable } from "./Runs.tsx";
import { StartButton } from "./starting.tsx";

const GraphView = lazy(() => import("../run/GraphView.tsx"));

const TABS: [string, string][] = [
  ["", "Graph"],
  ["runs", "Runs"],
  ["nodes", "Nodes"],
  ["definition", "Definition"],
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
        {found.data?.name ?? id}{" "}
        <span className="muted small">
          {found.data
            ? `version ${found.data.version} · ${Object.keys(definition?.nodes ?? {}).length} nodes`
            : ""}
        </span>
      </Title>
      <p className="muted">{definition?.description ?? ""}</p>
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
      {tab === "definition" && definition ? (
        <Editor id={id} initial={JSON.stringify(definition, null, 2)} />
      ) : null}
    </div>
  );
}

function Drawing({ id }: { id: string }) {
  const { query } = usePlace();
  const node = query.get("node");
  const workflow = useWorkflow(id);
  const graph = useQuery({
    queryKey: ["graph", id, "newest", workflow.data?.version],
    queryFn: () => get<GraphDocument>(`api/v1/workflows/${id}/graph`),
  });
  const [select] = useState(() => (chosen: string) => go(withQuery({ node: chosen }), true));
  const definition = node ? workflow.data?.definition.nodes[node] : undefined;
  return (
    <div className={`run-body ${definition ? "" : "alone"}`}>
      <div className="card" style={{ minHeight: 320 }}>
        <Suspense fallback={<Loading />}>
          {graph.data ? (
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
        Nodes, what they need, and conditions, in JSON. In files, YAML reads better:{" "}
        <code>tailrace apply workflow.yaml</code>
      </p>
      <Editor id={null} initial={JSON.stringify(TEMPLATE, null, 2)} />
    </div>
  );
}

/** A definition with the API's problems at their place. */
function Editor({ id, initial }: { id: string | null; initial: string }) {
  const [text, setText] = useState(initial);
  const [error, setError] = useState<unknown>(null);
  const [isValid, setValid] = useState(false);
  const parsed = (): { id?: string } => {
    try {
      return JSON.parse(text) as { id?: string };
    } catch (failure) {
      throw new Problem(422, (failure as Error).message, [], null);
    }
  };
  const act = async (what: () => Promise<void>) => {
    setError(null);
    setValid(false);
    try {
      await what();
    } catch (failure) {
      setError(failure);
    }
  };
  const check = () =>
    act(async () => {
      await post("api/v1/workflows/validate", parsed());
      setValid(true);
    });
  const store = () =>
    act(async () => {
      const body = parsed();
      const target = id ?? body.id ?? "";
      const made = await call<{ version: number }>("PUT", `api/v1/workflows/${target}`, body);
      toast(`Version ${made.version} is stored`, "success");
      await client.invalidateQueries();
      go(href("workflows", target));
    });
  const problems = error instanceof Problem ? error.errors : [];
  return (
    <div className={`run-body ${error || isValid ? "" : "alone"}`}>
      <div className="card panel">
        <div className="card-head">
          <button type="button" className="btn" onClick={check}>
            Check
          </button>
          <Only scope="workflows:write">
            <button
              type="button"
              className="btn primary"
              onClick={store}
              disabled={text === initial && id !== null}
            >
              Store a new version
            </button>
          </Only>
        </div>
        <textarea
          className="area"
          aria-label="Definition in JSON"
          spellCheck={false}
          style={{
            border: 0,
            height: "100%",
            borderRadius: 0,
            resize: "none",
            padding: "10px 14px",
          }}
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
      </div>
      {isValid ? (
        <div className="card side">
          <Empty title="The definition is valid" />
        </div>
      ) : null}
      {error ? (
        <div className="card side">
          {problems.length ? (
            <ul>
              {problems.map((problem) => (
                <li key={problem.pointer + problem.detail}>
                  <button
                    type="button"
                    className="btn quiet"
                    style={{ whiteSpace: "normal", textAlign: "left", display: "block" }}
                    onClick={() => reveal(text, problem.pointer)}
                  >
                    <code className="log-error">{problem.pointer || "/"}</code>
                    <br />
                    {problem.detail}
                  </button>
                </li>
              ))}
            </ul>
          ) : (
            <Failure error={error} />
          )}
        </div>
      ) : null}
    </div>
  );
}

/** Select the place that a JSON Pointer names: its last key, after the keys before it. */
function reveal(text: string, pointer: string): void {
  const area = document.querySelector<HTMLTextAreaElement>(
    "textarea[aria-label='Definition in JSON']",
  );
  if (!area) return;
  let at = 0;
  let last = "";
  for (const key of pointer.split("/").slice(1)) {
    const found = text.indexOf(`"${key}"`, at);
    if (found >= 0) {
      at = found;
      last = key;
    }
  }
  area.focus();
  area.setSelectionRange(at, at + last.length + 2);
  area.scrollTop = Math.max(0, text.slice(0, at).split("\n").length * 18 - 120);
}
