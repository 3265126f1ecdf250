// @vitest-environment jsdom
import { StrictMode, Suspense, useState } from "react";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import {
  ExecutionBoundary,
  useExecutionStream as useFlowExecution,
} from "../src/flow-execution.js";
import {
  useCommand,
  useConnection,
  useFeed,
  useInbox,
  usePipelines,
  useRun,
  useRuns,
  useStats,
} from "../src/index.js";
import { RealTimeFeedback, useSSEUpdates } from "../src/merchant-feed.js";
import { PausedWorkflows } from "../src/paused-workflows.js";
import { block, Page } from "./page.js";

let page: Page;

beforeEach(() => {
  page = new Page();
});

afterEach(() => page.unmount());

const at = "2026-11-29T18:00:00.000Z";
const entry = (executionId: string, pausedAt = "approve") => ({
  executionId,
  workflowId: "order",
  workflowName: "Order",
  pausedAt,
  pausedTime: at,
  waitingFor: [],
  timeoutAt: null,
  variables: { po: 7 },
  reason: "approval",
});

function Inbox() {
  const { entries } = useInbox();
  return <p>{entries.length} waiting</p>;
}

test("strict mode and suspense open one stream, and none is left after the unmount", async () => {
  const never = new Promise<never>(() => {});
  function Suspended(): never {
    throw never;
  }
  await page.render(
    <StrictMode>
      <Inbox />
      <Suspense fallback={<Inbox />}>
        <Inbox />
        <Suspended />
      </Suspense>
    </StrictMode>,
  );
  await page.pass(1_000);
  expect(page.world.streams).toHaveLength(1);
  await page.render(null);
  await page.pass(2_000);
  expect(page.world.live).toHaveLength(0);
  expect(page.world.streams).toHaveLength(1);
});

test("fifty components that mount in one tick share a connection", async () => {
  const all = Array.from({ length: 50 }, (_, index) => <Inbox key={index} />);
  await page.render(all);
  page.world.stream
    .open()
    .topic("paused", "paused.initial", { pausedWorkflows: [entry("e")] }, "1");
  await page.pass(50);
  expect(page.text).toBe("1 waiting".repeat(50));
  expect(page.world.streams).toHaveLength(1);
});

test("a run, the runs, pipelines, the feed and statistics are followed over one stream", async () => {
  function Everything() {
    const { state } = useRun("e1");
    const { runs } = useRuns();
    const { statuses } = usePipelines(["a", "b"]);
    const { events } = useFeed();
    const { stats } = useStats();
    const counts = [runs.length, statuses.get("a"), events.length, stats?.active_runs];
    return <p>{[state?.status, ...counts, useConnection().state].join()}</p>;
  }
  await page.render(<Everything />);
  const topics = ["execution:e1", "feed", "pipeline:a", "pipeline:b", "runs", "stats"];
  expect(page.world.stream.topics).toEqual(topics);
  const { stream } = page.world;
  stream.open();
  const queued = { execution_id: "e1", workflow_id: "w", workflow_name: "W", version: 1 };
  const event = { type: "execution:queued", data: queued, timestamp: at };
  stream.topic("execution:e1", "execution:queued", event, "1");
  stream.topic(
    "pipeline:a",
    "batch_update",
    { updates: [{ pipelineId: "a", status: "idle" }] },
    "2",
  );
  stream.topic("runs", "runs.initial", { runs: [{ execution_id: "e1", status: "queued" }] }, "3");
  stream.topic("feed", "stage", { type: "stage", poId: "1" }, "");
  const none = { completed: 0, failed: 0, cancelled: 0 };
  const stats = { active_runs: 3, ended: none, last_hour: none, success_rate: null, workflows: [] };
  stream.topic("stats", "stats.initial", { ...stats, timestamp: 1 }, "4");
  await page.pass(200);
  expect(page.text).toBe("queued,1,idle,1,3,connected");
});

test("a command goes out with a key of its own, and a failure is shown", async () => {
  function Pause() {
    const { send, phase, error } = useCommand("POST /api/v1/executions/{execution_id}/pause");
    const pause = () => send({ path: { execution_id: "e1" } }).catch(() => {});
    return (
      <button type="button" onClick={pause}>
        {`${phase} ${error?.message ?? ""}`}
      </button>
    );
  }
  await page.render(<Pause />);
  await page.click("idle ");
  expect(page.text).toBe("sending ");
  const first = page.request;
  first.json({ execution_id: "e1", status: "running", stream_url: "" });
  await page.pass(10);
  expect(page.text).toBe("accepted ");
  await page.click("accepted ");
  expect(page.request.headers.get("Idempotency-Key")).not.toBe(
    first.headers.get("Idempotency-Key"),
  );
  page.request.reject(409);
  await page.pass(10);
  expect(page.text).toBe("failed 409");
});

test("paused workflows appear, are resumed and cancelled, and leave", async () => {
  await page.render(<PausedWorkflows />);
  expect(page.text).toContain("Loading");
  page.world.stream.open();
  block(page, "paused.initial", { pausedWorkflows: [entry("e1"), entry("e1", "sign")] }, "1");
  await page.pass(50);
  expect(page.world.stream.url.pathname).toBe("/api/workflow/paused-stream");
  expect(page.element.querySelectorAll("tbody tr")).toHaveLength(2);
  await page.click("Resume");
  expect(page.request.url.pathname).toBe("/api/workflow/resume");
  page.request.json({});
  block(page, "workflow.resumed", {
    executionId: "e1",
    workflowId: "order",
    resumedFrom: "approve",
  });
  await page.pass(50);
  expect(page.element.querySelectorAll("tbody tr")).toHaveLength(1);
  await page.click("Cancel");
  await page.click("Keep");
  await page.click("Cancel");
  await page.click("Yes, cancel");
  expect(page.request.url.pathname).toBe("/api/workflow/cancel");
  page.request.reject(409);
  await page.pass(50);
  expect(page.element.querySelector("[role=alert]")?.textContent).toBe("409");
  block(page, "workflow.cancelled", { executionId: "e1", workflowId: "order", reason: "" });
  await page.pass(50);
  expect(page.text).toContain("No workflow is paused");
});

test("the feed shows orders, keeps a hundred events, and clears them", async () => {
  let updates: ReturnType<typeof useSSEUpdates> | undefined;
  function Probe() {
    updates = useSSEUpdates();
    return null;
  }
  await page.render(
    <>
      <RealTimeFeedback />
      <Probe />
    </>,
  );
  expect(page.world.stream.url.searchParams.get("merchantId")).toBe("shop");
  page.world.stream.open();
  block(page, "message", { type: "connected", merchantId: "shop", timestamp: 1 }, "1");
  for (let n = 0; n < 150; n++)
    block(page, "progress", {
      type: "progress",
      poId: `po-${n % 2}`,
      progress: n % 100,
      message: "x",
    });
  await page.pass(50);
  expect(page.text).toContain("Live updates active");
  expect(page.element.querySelectorAll("article")).toHaveLength(2);
  expect(updates?.events).toHaveLength(100);
  expect(updates?.events[0]).toMatchObject({ progress: 49 });
  await page.do(() => updates?.clearEvents());
  await page.pass(50);
  expect(updates?.events).toHaveLength(0);
  block(page, "error", { type: "error", poId: "po-9", stage: "s", error: "closed" });
  await page.pass(50);
  expect(updates?.events).toHaveLength(1);
  page.world.stream.cut();
  await page.pass(2_000);
  expect(updates).toMatchObject({
    isConnected: false,
    error: "Connection lost. Reconnecting...",
  });
  expect(page.text).toContain("Reconnecting...");
});

test("the nodes of a flow run one by one, and a toast tells how it ended", async () => {
  const toast = vi.fn();
  let flow: ReturnType<typeof useFlowExecution> | undefined;
  function Editor() {
    const [nodes, setNodes] = useState([{ id: "a" }, { id: "b", data: { status: "error" } }]);
    flow = useFlowExecution(nodes as { id: string; data?: object }[], setNodes as never, {
      onToast: toast,
    });
    return <p>{nodes.map(({ data }) => (data as { status?: string })?.status).join()}</p>;
  }
  await page.render(<Editor />);
  await page.do(() => void flow?.execute(1, { x: 1 }));
  await page.pass(20);
  expect(page.text).toBe("idle,idle");
  page.request.json({ execution_id: "e1", status: "queued", stream_url: "" });
  await page.pass(20);
  expect(flow?.isExecuting).toBe(true);
  page.world.stream.open();
  const send = async (type: string, data: object, id: string) => {
    page.world.stream.topic("execution:e1", type, { type, data, timestamp: at }, id);
    await page.pass(150);
    return page.text;
  };
  const step = { node_type: "log", attempt: 1, started_at: at, completed_at: at, duration_ms: 1 };
  await send("execution:queued", { execution_id: "e1", workflow_id: "1" }, "1");
  expect(await send("step:started", { ...step, node_id: "a" }, "2")).toBe("running,idle");
  expect(await send("step:completed", { ...step, node_id: "a", output: 1 }, "3")).toBe(
    "success,idle",
  );
  expect(flow?.progress).toBe(50);
  expect(await send("step:started", { ...step, node_id: "b" }, "4")).toBe("success,running");
  await page.do(() => void flow?.cancel());
  await page.pass(20);
  expect(page.request.url.pathname).toBe("/api/v1/executions/e1/cancel");
  expect(await send("step:completed", { ...step, node_id: "b", output: 1 }, "5")).toBe(
    "success,success",
  );
  await send("execution:completed", { execution_id: "e1", execution_time_ms: 5 }, "6");
  expect(toast).toHaveBeenCalledWith("Workflow executed successfully!", "success");
  expect(flow).toMatchObject({ isExecuting: false, error: null, progress: 100 });
});

test("several flows run at once; the newest is paused, resumed and reported", async () => {
  let flow: ReturnType<typeof useFlowExecution> | undefined;
  function Editor() {
    const [nodes, setNodes] = useState<{ id: string; data?: { status?: string } }[]>([{ id: "a" }]);
    flow = useFlowExecution(nodes, setNodes);
    return <p>{nodes.map(({ data }) => data?.status).join()}</p>;
  }
  await page.render(<Editor />);
  for (const execution_id of ["e1", "e2"]) {
    await page.do(() => void flow?.execute("w"));
    await page.pass(20);
    page.request.json({ execution_id, status: "queued", stream_url: "" });
    await page.pass(200);
  }
  expect(page.world.live).toHaveLength(1);
  expect(page.world.stream.topics).toEqual(["execution:e1", "execution:e2"]);
  page.world.stream.open();
  const send = async (id: string, type: string, data: object, position: string) => {
    const run = `execution:${id}`;
    page.world.stream.topic(run, type, { type, data, timestamp: at }, position);
    await page.pass(150);
  };
  for (const id of ["e1", "e2"])
    await send(id, "execution:queued", { execution_id: id, workflow_id: "w" }, `1-${id}`);
  await page.do(() => void flow?.pause());
  await page.pass(20);
  expect(page.request.url.pathname).toBe("/api/v1/executions/e2/pause");
  const paused = { execution_id: "e2", status: "paused", reason: "requested", requested: true };
  await send("e2", "execution:paused", paused, "2");
  expect(flow).toMatchObject({ executionId: "e2", isExecuting: true, isPaused: true });
  await page.do(() => void flow?.resume());
  await page.pass(20);
  expect(page.request.url.pathname).toBe("/api/v1/executions/e2/resume");
  await send("e2", "execution:resumed", { execution_id: "e2", status: "running" }, "3");
  expect(flow?.isPaused).toBe(false);
  // The end of the earlier one changes nothing but its nodes.
  const step = { node_id: "a", node_type: "log", attempt: 1, started_at: at, completed_at: at };
  await send("e1", "step:completed", { ...step, duration_ms: 1, output: 1 }, "4");
  await send("e1", "execution:completed", { execution_id: "e1", execution_time_ms: 5 }, "5");
  expect(page.text).toBe("success");
  expect(flow).toMatchObject({ executionId: "e2", isExecuting: true });
  await page.do(() => flow?.updateNodeStatus("a", "error"));
  expect(page.text).toBe("error");
});

test("a flow that cannot start says why, and an error boundary offers another try", async () => {
  let flow: ReturnType<typeof useFlowExecution> | undefined;
  let breaks = true;
  function Broken() {
    if (breaks) throw new Error("no graph");
    return <p>fine</p>;
  }
  function Editor() {
    flow = useFlowExecution([], () => {});
    return (
      <ExecutionBoundary>
        <Broken />
      </ExecutionBoundary>
    );
  }
  const console = vi.spyOn(globalThis.console, "error").mockImplementation(() => {});
  await page.render(<Editor />);
  console.mockRestore();
  expect(page.text).toContain("no graph");
  breaks = false;
  await page.click("Try again");
  expect(page.text).toBe("fine");
  await page.do(() => void flow?.execute("missing"));
  await page.pass(20);
  page.request.reject(404);
  await page.pass(20);
  expect(flow).toMatchObject({ isExecuting: false, error: "404" });
});
