// @vitest-environment jsdom
import { act, createElement, useRef } from "react";
import { createRoot } from "react-dom/client";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { World } from "../../client/test/world.js";
import { subscribeToExecution, useExecutionStream } from "../src/execution.js";
import "../src/elements.js";
import {
  configure,
  FALLBACK_EVENT,
  type PipelineStatus,
  pipelineSSEManager,
  useMultiplePipelineState,
  useOnScreen,
  usePipelineMonitoring,
  usePipelineStateSSE,
  useSSEFallbackState,
} from "../src/pipelines.js";

globalThis.IS_REACT_ACT_ENVIRONMENT = true;

// These hooks make their clients themselves, so the network of the page is replaced, and time is
// that of the machine.
let world: World;
let element: HTMLElement;
let root: ReturnType<typeof createRoot>;
let number = 0;

beforeEach(() => {
  world = new World();
  vi.stubGlobal("fetch", (url: string, init: RequestInit) => world.fetch(url, init));
  element = document.body.appendChild(document.createElement("main"));
  root = createRoot(element);
  number += 1;
});

afterEach(async () => {
  await act(async () => root.unmount());
  element.remove();
  pipelineSSEManager.destroy();
  vi.unstubAllGlobals();
});

const render = (component: () => string) => act(async () => root.render(createElement(component)));

const until = (check: () => void) => act(() => vi.waitFor(check, { timeout: 60_000, interval: 5 }));

const shows = (text: string) => until(() => expect(element.textContent).toBe(text));

function send(event: string, data: unknown, id = ""): void {
  world.stream.send(`event: ${event}\ndata: ${JSON.stringify(data)}\n${id ? `id: ${id}\n` : ""}\n`);
}

const timestamp = "2026-11-29T18:00:00.000Z";

test("an execution is followed to its end, with a token and an organisation", async () => {
  const id = `e${number}`;
  let seen: ReturnType<typeof useExecutionStream> | undefined;
  await render(() => {
    seen = useExecutionStream(id, "secret", "org-4");
    return seen.status;
  });
  await until(() => expect(world.streams).toHaveLength(1));
  expect(world.stream.headers.get("Authorization")).toBe("Bearer secret");
  expect(world.stream.headers.get("X-Organization-ID")).toBe("org-4");
  world.stream.open();
  send("connected", { execution_id: id });
  await shows("connected");
  const step = { type: "step:started", data: { node_id: "a", node_type: "log" }, timestamp };
  send("step:started", step, "1");
  const failed = { execution_id: id, error_message: "broken" };
  send("execution:failed", { type: "execution:failed", data: failed, timestamp }, "2");
  await shows("failed");
  expect(seen?.events).toEqual([
    { type: "step:started", data: step, timestamp },
    expect.objectContaining({ type: "execution:failed" }),
  ]);
  expect(seen?.error).toBe("broken");
});

test("no execution opens nothing, and another one begins anew", async () => {
  let id: string | null = null;
  const component = () => {
    const { status, events } = useExecutionStream(id, "secret", "org-5");
    return `${id} ${status} ${events.length}`;
  };
  await render(component);
  await shows("null disconnected 0");
  expect(world.streams).toHaveLength(0);
  id = `first${number}`;
  await render(() => component());
  await until(() => expect(world.streams).toHaveLength(1));
  world.stream.open();
  send("step:started", { type: "step:started", data: {}, timestamp }, "1");
  await shows(`${id} connected 1`);
  id = `second${number}`;
  await render(() => component());
  await shows(`${id} connecting 0`);
  await until(() => expect(world.live).toHaveLength(1));
});

test("code without React subscribes, and closes", async () => {
  const texts: string[] = [];
  const stream = subscribeToExecution(`e${number}`, "token", "org-6");
  stream.addEventListener("step:started", ({ data }) => texts.push(data));
  await until(() => expect(world.streams).toHaveLength(1));
  world.stream.open();
  send("step:started", { type: "step:started", data: { n: 1 }, timestamp }, "1");
  await until(() => expect(texts).toHaveLength(1));
  expect(JSON.parse(texts[0] ?? "")).toMatchObject({ data: { n: 1 } });
  stream.close();
  await until(() => expect(world.live).toHaveLength(0));
});

test("pipelines that components follow share one stream; equal lists are one", async () => {
  configure({ sse: true });
  let counted = 0;
  await render(() => {
    counted += 1;
    const statuses = useMultiplePipelineState(["b", "a"]);
    usePipelineMonitoring(["a", "b"]);
    return `${usePipelineStateSSE("c")} ${JSON.stringify(statuses)}`;
  });
  await until(() => expect(world.streams).toHaveLength(1));
  expect(world.stream.url.pathname).toBe("/ui-api/pipeline/status/stream");
  expect(world.stream.url.searchParams.get("pipelineIds")).toBe("a,b,c");
  world.stream.open();
  const updates = [
    { pipelineId: "a", status: "active" },
    { pipelineId: "c", status: "failed" },
  ];
  send("batch_update", { type: "batch_update", timestamp: 1, updates }, "1");
  await shows('failed {"a":"active"}');
  const before = counted;
  send("heartbeat", { type: "heartbeat", timestamp: 2 }, "2");
  send("status_update", { type: "status_update", timestamp: 3, pipelineId: "x", status: "idle" });
  await until(() => expect(pipelineSSEManager.getPipelineStatus("x")).toBe("idle"));
  expect(counted).toBe(before);
  expect(world.streams).toHaveLength(1);
});

test("after failed attempts polling takes over, the window hears of it, and SSE comes back", async () => {
  configure({ maxReconnectAttempts: 2, reconnectDelay: 5 });
  world.serve = (connection) => {
    if (connection.headers.get("Accept") === "text/event-stream") connection.reject(503);
    else
      connection.json({ type: "batch_update", updates: [{ pipelineId: "a", status: "paused" }] });
  };
  const heard = vi.fn();
  addEventListener(FALLBACK_EVENT, heard);
  let fallback: ReturnType<typeof useSSEFallbackState> | undefined;
  await render(() => {
    fallback = useSSEFallbackState();
    return `${usePipelineStateSSE("a")} ${fallback.isFallbackActive}`;
  });
  await shows("paused true");
  expect(heard).toHaveBeenCalledTimes(1);
  removeEventListener(FALLBACK_EVENT, heard);
  world.serve = null;
  fallback?.resetFallback();
  await until(() => expect(world.live).toHaveLength(1));
  world.stream.open();
  const updates = [{ pipelineId: "a", status: "completed" }];
  send("batch_update", { type: "batch_update", timestamp: 1, updates }, "1");
  await shows("completed false");
});

test("the manager reports to listeners, and writes lines only for debugging", async () => {
  const log = vi.spyOn(console, "log").mockImplementation(() => {});
  configure({ debug: true });
  const seen: [string, PipelineStatus][] = [];
  const stop = pipelineSSEManager.addStatusListener((...update) => seen.push(update));
  pipelineSSEManager.subscribe("p");
  await until(() => expect(world.streams).toHaveLength(1));
  world.stream.open();
  const updates = [{ pipelineId: "p", status: "active" }];
  send("batch_update", { type: "batch_update", timestamp: 1, updates }, "1");
  const update = { type: "status_update", timestamp: 2, pipelineId: "p", status: "paused" };
  send("status_update", { ...update, previousStatus: "active" }, "2");
  await until(() =>
    expect(seen).toEqual([
      ["p", "active"],
      ["p", "paused"],
    ]),
  );
  await until(() => expect(pipelineSSEManager.getConnectionState()).toBe("connected"));
  const lines = log.mock.calls.map(([line]) => line);
  log.mockRestore();
  expect(lines).toEqual(
    expect.arrayContaining([
      "[SSE Manager] Connecting to /ui-api/pipeline/status/stream?pipelineIds=p",
      "[SSE Manager] Connection established",
      "[SSE Manager] Batch update: 1 pipelines",
      "[SSE Manager] Status update: p active -> paused",
    ]),
  );
  stop();
  pipelineSSEManager.disconnect();
  await until(() => expect(world.live).toHaveLength(0));
  pipelineSSEManager.reconnect();
  await until(() => expect(world.live).toHaveLength(1));
  pipelineSSEManager.unsubscribe("p");
  configure({ debug: false });
});

test("without SSE the adapter polls, and opens no stream", async () => {
  configure({ sse: false });
  world.serve = (connection) =>
    connection.json({ type: "batch_update", updates: [{ pipelineId: "a", status: "idle" }] });
  await render(() => JSON.stringify(useMultiplePipelineState(["a"])));
  await shows('{"a":"idle"}');
  expect(world.streams).toHaveLength(0);
  expect(pipelineSSEManager.isFallbackActive()).toBe(false);
  configure({ sse: true });
});

/** jsdom has no style sheets of documents' own. */
function stubStyleSheets(): void {
  vi.stubGlobal(
    "CSSStyleSheet",
    class {
      replaceSync() {}
    },
  );
}

test("an element shows a run, and closes its stream when it leaves the page", async () => {
  stubStyleSheets();
  const run = document.createElement("tailrace-run");
  run.setAttribute("execution", `e${number}`);
  run.setAttribute("organization", "elements");
  document.body.append(run);
  const text = () => run.shadowRoot?.textContent ?? "";
  expect(text()).toContain("Loading");
  await until(() => expect(world.streams).toHaveLength(1));
  const topic = `execution:e${number}`;
  world.stream.open();
  const queued = { execution_id: topic, workflow_id: "w", workflow_name: "Weave" };
  const events: [string, object][] = [
    ["execution:queued", queued],
    ["execution:started", { execution_id: topic }],
    ["step:started", { node_id: "spin", node_type: "log", attempt: 1, started_at: timestamp }],
  ];
  for (const [index, [type, data]] of events.entries())
    world.stream.topic(topic, type, { type, data, timestamp }, `${index + 1}`);
  await until(() => expect(text()).toContain("Weave: runningspinrunning"));
  run.remove();
  await until(() => expect(world.live).toHaveLength(0));
});

test("elements list what waits for a decision, send it, and show how the streams are doing", async () => {
  stubStyleSheets();
  const [inbox, badge] = ["tailrace-inbox", "tailrace-badge"].map((name) => {
    const element = document.createElement(name);
    element.setAttribute("base-url", "http://tailrace.test");
    return document.body.appendChild(element);
  });
  const text = (element: Element | undefined) => element?.shadowRoot?.textContent ?? "";
  expect(text(inbox)).toContain("Loading");
  await until(() => expect(world.live[0]?.topics).toEqual(["feed", "paused"]));
  const entry = (executionId: string, waitingFor: string[]) => ({
    ...{ executionId, workflowId: "order", workflowName: "Order", pausedAt: "approve" },
    ...{ pausedTime: timestamp, waitingFor, timeoutAt: null, variables: {}, reason: "amount" },
  });
  const pausedWorkflows = [entry("e1", []), entry("e2", ["orders.paid"])];
  world.live[0]?.open().topic("paused", "paused.initial", { pausedWorkflows }, "1");
  await until(() => expect(text(inbox)).toContain("Order: approveamount, orders.paid"));
  await until(() => expect(text(badge)).toBe("Live · 1 tab · 1 stream"));
  // Only a wait without triggers has buttons.
  const buttons = [...(inbox?.shadowRoot?.querySelectorAll("button") ?? [])];
  expect(buttons.map((button) => button.textContent)).toEqual(["Approve", "Reject"]);
  const fetched = vi.spyOn(world, "fetch");
  const failed = vi.fn();
  document.body.addEventListener("tailrace-error", failed, { once: true });
  buttons[1]?.click();
  await until(() => expect(fetched).toHaveBeenCalledTimes(1));
  const [url, init] = fetched.mock.calls[0] ?? [];
  expect(url).toMatch(/\/api\/v1\/executions\/e1\/resume$/);
  expect(JSON.parse(String(init?.body))).toEqual({ node_id: "approve", decision: "rejected" });
  // A refused decision can be sent again.
  const isDisabled = () => buttons.map((button) => button.getAttribute("aria-disabled"));
  expect(isDisabled()).toEqual(["true", "true"]);
  world.connections.at(-1)?.reject(409);
  await until(() => expect(failed).toHaveBeenCalledTimes(1));
  expect(isDisabled()).toEqual(["false", "false"]);
  for (const element of [inbox, badge]) element?.remove();
  await until(() => expect(world.live).toHaveLength(0));
});

test("rows of an inbox keep the focus and what they have sent while others come and go", async () => {
  stubStyleSheets();
  const inbox = document.createElement("tailrace-inbox");
  inbox.setAttribute("base-url", "http://tailrace.test");
  inbox.setAttribute("organization", "rows");
  document.body.append(inbox);
  const root = inbox.shadowRoot as ShadowRoot;
  const rows = () => [...root.querySelectorAll("li")];
  const button = (row: number, label: string) =>
    [...(rows()[row]?.querySelectorAll("button") ?? [])].find(
      ({ textContent }) => textContent === label,
    ) as HTMLButtonElement;
  const entry = (executionId: string, minute: number) => ({
    ...{ executionId, workflowId: "order", workflowName: "Order", pausedAt: "approve" },
    ...{ pausedTime: `2026-01-01T00:0${minute}:00Z`, timeoutAt: null, variables: {} },
    ...{ waitingFor: [], reason: executionId },
  });
  await until(() => expect(world.live[0]?.topics).toEqual(["paused"]));
  const stream = world.live[0]?.open();
  stream?.topic("paused", "paused.initial", { pausedWorkflows: [entry("e1", 1)] }, "1");
  await until(() => expect(rows()).toHaveLength(1));

  const fetched = vi.spyOn(world, "fetch");
  const keyOf = (call: number) =>
    new Headers(fetched.mock.calls[call]?.[1].headers).get("Idempotency-Key");
  const approve = button(0, "Approve");
  approve.focus();
  approve.click();
  await until(() => expect(fetched).toHaveBeenCalledTimes(1));
  stream?.topic("paused", "workflow.paused", entry("e2", 2), "2");
  await until(() => expect(rows()).toHaveLength(2));
  // The newest row is the first one.
  expect(button(1, "Approve")).toBe(approve);
  expect(root.activeElement).toBe(approve);
  approve.click();
  button(1, "Reject").click();
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(fetched).toHaveBeenCalledTimes(1);

  // The answer is lost: the decision that is sent again is the same one.
  world.connections.at(-1)?.cut();
  await until(() => expect(approve.getAttribute("aria-disabled")).toBe("false"));
  expect(rows()[1]?.querySelector("[role=status]")?.textContent).toContain("terminated");
  approve.click();
  await until(() => expect(fetched).toHaveBeenCalledTimes(2));
  expect(keyOf(1)).toBe(keyOf(0));
  button(0, "Approve").click();
  await until(() => expect(fetched).toHaveBeenCalledTimes(3));
  expect(keyOf(2)).not.toBe(keyOf(0));

  // The focus goes to a neighbour, but to none of its buttons.
  stream?.topic("paused", "workflow.resumed", { executionId: "e1", resumedFrom: "approve" }, "3");
  await until(() => expect(rows()).toHaveLength(1));
  const link = rows()[0]?.querySelector("a");
  expect(root.activeElement).toBe(link);
  expect(link?.href).toBe("http://tailrace.test/#/inbox?entry=e2~approve");
  inbox.remove();
  await until(() => expect(world.live).toHaveLength(0));
});

test("a pipeline that is off the screen is followed, and not urgent", async () => {
  configure({ sse: true });
  let notify: (entries: { isIntersecting: boolean }[]) => void = () => {};
  vi.stubGlobal(
    "IntersectionObserver",
    class {
      constructor(callback: typeof notify) {
        notify = callback;
      }
      observe() {}
      disconnect() {}
    },
  );
  await act(async () =>
    root.render(
      createElement(function Card() {
        const card = useRef<HTMLDivElement>(null);
        usePipelineMonitoring(["b"], useOnScreen(card));
        usePipelineMonitoring(["a"]);
        return createElement("div", { ref: card });
      }),
    ),
  );
  await until(() => expect(world.streams).toHaveLength(1));
  expect(world.stream.url.searchParams.get("visible")).toBeNull();
  await act(async () => notify([{ isIntersecting: false }]));
  await until(() => expect(world.stream.url.searchParams.get("visible")).toBe("a"));
  expect(world.stream.url.searchParams.get("pipelineIds")).toBe("a,b");
});
