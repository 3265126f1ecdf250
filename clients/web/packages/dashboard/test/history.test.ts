import { expect, test } from "vitest";
import type { RunEvent } from "../src/run/fold.ts";
import { History } from "../src/run/history.ts";

const at = "2026-01-01T00:00:00.000Z";

function events(steps: number): RunEvent[] {
  const found: RunEvent[] = [
    {
      type: "execution:queued",
      data: {
        execution_id: "run",
        workflow_id: "flow",
        workflow_name: "Flow",
        version: 1,
        input: {},
      },
      timestamp: at,
    },
  ];
  for (let index = 0; index < steps; index++) {
    const step = { node_id: `s${index}`, node_type: "log", attempt: 1, started_at: at };
    found.push({ type: "step:started", data: { ...step, status: "running" }, timestamp: at });
    const ended = { ...step, status: "success", completed_at: at, duration_ms: 1, output: index };
    found.push({ type: "step:completed", data: ended, timestamp: at });
  }
  return found;
}

test("any moment is the fold of the events before it, across checkpoints", () => {
  const all = events(700);
  const history = new History();
  for (const event of all) history.add(event);
  for (const count of [1, 2, 255, 256, 257, 511, 512, 513, 1_000, all.length]) {
    const alone = new History();
    for (const event of all.slice(0, count)) alone.add(event);
    expect(history.at(count)).toEqual(alone.latest);
  }
});

test("a moment stays as it is while the run goes on", () => {
  const [first, second, third] = events(1);
  const history = new History();
  for (const event of [first, second]) if (event) history.add(event);
  const before = history.latest;
  if (third) history.add(third);
  expect(before.steps.get("s0")?.status).toBe("running");
  expect(history.latest.steps.get("s0")?.status).toBe("success");
});

test("after a cut the same events lead to the same states", () => {
  const all = events(600);
  const [whole, cut] = [new History(), new History()];
  for (const event of all) whole.add(event);
  for (const count of [1, 256, 300, 1_024]) {
    for (const event of all.slice(cut.events.length)) cut.add(event);
    cut.cut(count);
    expect(cut.events).toEqual(all.slice(0, count));
    expect(cut.latest).toEqual(whole.at(count));
    for (const event of all.slice(count)) cut.add(event);
    expect(cut.latest).toEqual(whole.latest);
    expect(cut.at(700)).toEqual(whole.at(700));
  }
});
