import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { expect, test } from "vitest";
import { Fold, NEW_EXECUTION, progressOf } from "../src/fold.js";
import type { Event, JsonValue, RunDocument } from "../src/generated.js";
import type { ExecutionState, StepState } from "../src/types.js";

interface Node {
  readonly id: string;
  readonly type: string;
  readonly name: string | null;
  readonly item_type: string | null;
  readonly group: "on_failure" | "finally" | null;
}

interface Case {
  readonly title: string;
  readonly nodes: readonly Node[];
  readonly events: readonly Event[];
  readonly after: Readonly<Record<string, RunDocument>>;
}

const CASES = process.env.TAILRACE_FOLD_CASES;
const MAX_PENDING_ITEMS = 1000;

/** Return a state as the API would show it. */
function documentOf(state: ExecutionState, nodes: readonly Node[]): JsonValue {
  const described = new Map(nodes.map((node) => [node.id, node]));
  const unlisted = [...state.steps.keys()].filter((id) => !id.includes("["));
  const steps: JsonValue[] = [];
  const show = (id: string, index: number | null) => {
    const known = state.steps.get(id);
    const node = described.get(id.replace(/\[\d+\]$/, ""));
    const itemName = node?.name ? `${node.name}[${index}]` : id;
    steps.push({
      ...stepOf(known, id, unbegun(node, state), state.execution_id),
      ...(node?.group ? { group: node.group } : {}),
      node_type:
        (index === null ? node?.type : (node?.item_type ?? known?.node_type)) ??
        known?.node_type ??
        "",
      name: node === undefined ? id : index === null ? node.name || id : itemName,
    });
  };
  for (const id of new Set([...described.keys(), ...unlisted])) {
    show(id, null);
    for (let index = 0; index < (state.steps.get(id)?.items ?? 0); index++) {
      const item = `${id}[${index}]`;
      if (index < MAX_PENDING_ITEMS || state.steps.has(item)) show(item, index);
    }
  }
  const { execution_id, workflow_id, version, status, input, output, error } = state;
  const { created_at, started_at, finished_at, duration_ms, parent, rerun_of, tags } = state;
  return {
    ...{ execution_id, workflow_id, version, status, input, output, error },
    ...{ created_at, started_at, finished_at, duration_ms, parent, rerun_of, tags },
    ...(state.held ? { held: true } : {}),
    ...(state.from_node === null ? {} : { from_node: state.from_node }),
    ...(state.failed_only ? { failed_only: true } : {}),
    ...(state.scheduled_at === null ? {} : { scheduled_at: state.scheduled_at }),
    ...(state.schedule === null ? {} : { schedule: state.schedule }),
    steps,
  };
}

/** The status of a step without events. */
function unbegun(node: Node | undefined, { status, finishing }: ExecutionState): string {
  const isOver = ["completed", "failed", "cancelled"].includes(status);
  if (node?.group === "on_failure" && (isOver || finishing === "finally")) return "skipped";
  return isOver || (!node?.group && finishing !== null) ? "cancelled" : "pending";
}

function stepOf(step: StepState | undefined, node_id: string, absent: string, run: string) {
  const { status = absent, attempt = 0, started_at = null, completed_at = null } = step ?? {};
  const { duration_ms = null, output = null, error = null, output_bytes = null } = step ?? {};
  const href = `/api/v1/executions/${run}/steps/${node_id}/output`;
  return {
    ...{ node_id, status, attempt, started_at, completed_at, duration_ms, output, error },
    waiting_for: waitingOf(step),
    ...(step?.items == null ? {} : { items: step.items }),
    ...(step?.kept_from == null ? {} : { kept_from: step.kept_from }),
    ...(step?.error_detail ? { error_detail: step.error_detail } : {}),
    ...(output_bytes === null ? {} : { output_ref: { bytes: output_bytes, href } }),
  };
}

function waitingOf(step: StepState | undefined): JsonValue {
  if (!step?.waiting) return null;
  const { since: _since, ...waiting } = step.waiting;
  const isDefault = (value: JsonValue) =>
    value === null || value === "" || value === false || value.length === 0;
  return Object.fromEntries(Object.entries(waiting).filter(([, value]) => !isDefault(value)));
}

test("a fold equals the server's after any number of events", {
  timeout: 120_000,
}, async (context) => {
  if (!CASES) {
    expect(process.env.CI, "CI must compare with the server's states").toBeUndefined();
    return context.skip("no states of the server: run `pytest tests/e2e/web`, which exports them");
  }
  let compared = 0;
  const lines = createInterface({ input: createReadStream(CASES) });
  for await (const line of lines) {
    const { title, nodes, events, after } = JSON.parse(line) as Case;
    const fold = new Fold();
    const main = nodes.filter((node) => node.group === null).length;
    for (const [index, event] of events.entries()) {
      fold.apply(event);
      const expected = after[index + 1];
      if (expected === undefined) continue;
      const { progress, eta_ms: _eta, output, ...rest } = expected;
      const { output: shown, ...own } = documentOf(fold.state, nodes);
      const at = `${title}, after ${index + 1} events`;
      expect(own, at).toEqual(rest);
      // The API gathers an output that is too large for an event from those of the steps.
      if (!fold.state.output_omitted) expect(shown, at).toEqual(output);
      expect(Math.abs(progressOf(fold.state, main) - progress), at).toBeLessThan(0.11);
      compared += 1;
    }
  }
  expect(compared).toBeGreaterThan(1000);
});

const at = "2026-11-29T18:00:00.000Z";
const queued: Event = {
  type: "execution:queued",
  timestamp: at,
  data: {
    execution_id: "e1",
    workflow_id: "flow",
    workflow_name: "Flow",
    version: 1,
    input: null,
    status: "queued",
  },
};

test("a state is a checkpoint: later events do not change it", () => {
  const fold = new Fold();
  fold.apply(queued);
  const before = fold.state;
  expect(fold.state).toBe(before);
  const started = { node_id: "a", node_type: "log", status: "running", attempt: 1 };
  fold.apply({ type: "step:started", timestamp: at, data: { ...started, started_at: at } });
  expect(before.steps.size).toBe(0);
  expect(fold.state.steps.get("a")?.status).toBe("running");
  const again = new Fold(before);
  again.apply({ type: "step:started", timestamp: at, data: { ...started, started_at: at } });
  expect(again.state).toEqual(fold.state);
});

test("an unknown event changes nothing but the count", () => {
  const fold = new Fold();
  fold.apply({ type: "step:invented", timestamp: at, data: { node_id: "a" } } as never);
  expect(fold.state).toEqual({ ...NEW_EXECUTION, events: 1, updated_at: at });
});

test("a command is applied when a worker says so", () => {
  const fold = new Fold();
  fold.apply(queued);
  const command = { execution_id: "e1", command: "pause", command_id: "c1", actor: "ada" } as const;
  fold.apply({ type: "command:requested", timestamp: at, data: command });
  expect(fold.state.held).toBe(true);
  expect(fold.state.commands.get("c1")).toMatchObject({ applied: false, actor: "ada" });
  const data = { execution_id: "e1", status: "paused", reason: "requested", requested: true };
  fold.apply({ type: "execution:paused", timestamp: at, data });
  expect(fold.state.commands.get("c1")?.applied).toBe(true);
});
