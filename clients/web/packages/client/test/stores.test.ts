import { expect, test } from "vitest";
import {
  feedReducer,
  inboxReducer,
  pipelinesReducer,
  runsReducer,
  statsReducer,
} from "../src/stores.js";
import type { Reducer } from "../src/types.js";

function reduced<T>(reducer: Reducer<T>, ...blocks: (readonly [string, unknown])[]): T {
  for (const [event, data] of blocks) reducer.block({ event, data, id: "", at: 0 });
  return reducer.view();
}

const wait = (executionId: string, pausedAt: string, pausedTime: string) => ({
  executionId,
  pausedAt,
  pausedTime,
});

test("runs are listed newest first, and a change keeps the fields that it does not name", () => {
  const first = { execution_id: "01", workflow_id: "w", status: "running", error: "x" };
  const { runs, ready } = reduced(
    runsReducer(),
    ["runs.initial", { runs: [first] }],
    ["run", { execution_id: "02", workflow_id: "w", version: 1 }],
    ["run", { execution_id: "01", workflow_id: "w", status: "failed" }],
  );
  expect(ready).toBe(true);
  expect(runs).toMatchObject([
    { execution_id: "02", status: "queued", finished_at: null },
    { execution_id: "01", status: "failed", error: "x" },
  ]);
});

test("no more than two hundred runs are kept", () => {
  const blocks = Array.from({ length: 300 }, (_, index) => {
    return ["run", { execution_id: String(index).padStart(3, "0") }] as const;
  });
  const { runs } = reduced(runsReducer(), ...blocks);
  expect(runs).toHaveLength(200);
  expect(runs[0]?.execution_id).toBe("299");
});

test("the waits of one execution come and go one by one", () => {
  const view = reduced(
    inboxReducer(),
    ["paused.initial", { pausedWorkflows: [wait("e", "a", "1"), wait("f", "a", "2")], total: 9 }],
    ["workflow.paused", wait("e", "b", "3")],
    ["workflow.resumed", { executionId: "e", resumedFrom: "a" }],
    ["workflow.resumed", { executionId: "unlisted", resumedFrom: "a" }],
  );
  expect(view.entries.map(({ executionId, pausedAt }) => executionId + pausedAt)).toEqual([
    "eb",
    "fa",
  ]);
  expect(view.total).toBe(8);
});

test("a cancelled execution takes all its waits along", () => {
  const view = reduced(
    inboxReducer(),
    ["workflow.paused", wait("e", "a", "1")],
    ["workflow.paused", wait("e", "b", "1")],
    ["workflow.paused", wait("f", "a", "1")],
    ["workflow.cancelled", { executionId: "f", pausedAt: "other" }],
    ["workflow.cancelled", { executionId: "e" }],
  );
  expect(view.entries).toHaveLength(1);
});

test("pipelines have statuses, and messages where they are missing", () => {
  const view = reduced(
    pipelinesReducer(),
    ["batch_update", { updates: [{ pipelineId: "a", status: "idle" }] }],
    ["error", { pipelineId: "b", message: "no workflow" }],
    ["status_update", { pipelineId: "a", status: "active", previousStatus: "idle" }],
    ["heartbeat", { timestamp: 1 }],
  );
  expect([...view.statuses]).toEqual([["a", "active"]]);
  expect([...view.errors]).toEqual([["b", "no workflow"]]);
});

test("the feed has the newest event first", () => {
  const { events, ready } = reduced(
    feedReducer(),
    ["message", { type: "connected" }],
    ["stage", { type: "stage", poId: "1" }],
    ["error", { type: "error", poId: "2" }],
  );
  expect(ready).toBe(true);
  expect(events.map(({ poId }) => poId)).toEqual(["2", "1"]);
});

test("statistics count runs that begin and end", () => {
  const none = { completed: 0, failed: 0, cancelled: 0 };
  const counts = { active_runs: 1, ended: none, last_hour: none, success_rate: null };
  const workflows = [{ workflow_id: "w", ...counts }];
  const { stats } = reduced(
    statsReducer(),
    ["stats.initial", { ...counts, workflows, timestamp: 1 }],
    ["stats.run", { workflow_id: "w", status: "queued", timestamp: 2 }],
    ["stats.run", { workflow_id: "w", status: "completed", timestamp: 3 }],
    ["stats.run", { workflow_id: "other", status: "failed", timestamp: 4 }],
  );
  expect(stats).toMatchObject({
    active_runs: 0,
    ended: { completed: 1, failed: 1 },
    success_rate: 0.5,
    timestamp: 4,
  });
  expect(stats?.workflows[0]).toMatchObject({ active_runs: 1, success_rate: 1 });
});
