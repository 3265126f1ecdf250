/** A page with all blocks; its query names an execution and what is shown. */

import { useExecutionStream } from "@tailrace/react/execution";
import { type FlowNode, useExecutionStream as useFlow } from "@tailrace/react/flow-execution";
import { PausedWorkflows } from "@tailrace/react/paused-workflows";
import { configure } from "@tailrace/react/pipelines";
import { createElement, type FunctionComponent, useState } from "react";
import { createRoot } from "react-dom/client";
import { PipelineStatus } from "./blocks/PipelineStatus.js";
import { PipelinesList } from "./blocks/PipelinesList.js";
import { RealTimeFeedback } from "./blocks/RealTimeFeedback.js";
import { useExecutionStream as useOwnStream } from "./blocks/useExecutionStream.js";
import { runTests } from "./surroundings.js";

const TENANT = "default";
const [execution = "", asPublished] = location.search.slice(1).split("&");

// The tests do not wait for the usual delays.
configure({ reconnectDelay: 20, maxReconnectAttempts: 3 });

interface Streamed {
  readonly events: readonly { readonly data: unknown }[];
  readonly status: string;
  readonly error: string | null;
}

function Events({ id, stream }: { id: string; stream: Streamed }) {
  const { events, status, error } = stream;
  return (
    <section id={id} data-status={status} data-error={error}>
      {JSON.stringify(events.map(({ data }) => data))}
    </section>
  );
}

const Published = () => <Events id="own" stream={useOwnStream(execution, "token", TENANT)} />;
const Execution = () => (
  <Events id="execution" stream={useExecutionStream(execution, "", TENANT)} />
);

const NODES: FlowNode[] = ["draft", "wait-approval", "send"].map((id) => ({ id }));

function Flow() {
  const [nodes, setNodes] = useState(NODES);
  const { execute, executionId } = useFlow(nodes, setNodes);
  return (
    <section id="flow" data-execution={executionId ?? ""}>
      <button type="button" onClick={() => void execute("approval")}>
        Execute
      </button>
      {nodes.map(({ id, data }) => (
        <i key={id} data-node={id} data-status={(data as { status?: string })?.status} />
      ))}
    </section>
  );
}

const Pipelines = PipelinesList as unknown as FunctionComponent<{
  pipelines: { pipeline_id: string }[];
}>;

function Page() {
  if (asPublished) return <Published />;
  return (
    <>
      <Execution />
      <Flow />
      <PausedWorkflows />
      {createElement(Pipelines, { pipelines: [{ pipeline_id: "approval" }] })}
      <PipelineStatus pipelineId="approval" />
      <RealTimeFeedback />
    </>
  );
}

if (asPublished) {
  await import("./blocks/feedConsole.js");
  await import("./blocks/pausedConsole.js");
  await import("./blocks/pausedTest.js");
  const { subscribeToExecution } = await import("./blocks/subscribe.js");
  subscribeToExecution(execution, "token", TENANT);
  await runTests();
  console.log("tests passed");
}
createRoot(document.body.appendChild(document.createElement("main"))).render(<Page />);
