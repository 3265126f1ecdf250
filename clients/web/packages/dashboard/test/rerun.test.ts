import { expect, test } from "vitest";
import type { GraphDocument, StepStatus } from "../src/data/types.ts";
import { EMPTY_RUN, pendingStep, type RunState } from "../src/run/fold.ts";
import { bodyOf, failedItemsOf, keptBy } from "../src/run/rerun.ts";

const node = (id: string) => ({ id, type: "log", name: id, stage: null });
/** Two chains: a → b and c → d. */
const GRAPH: GraphDocument = {
  nodes: ["a", "b", "c", "d"].map(node),
  edges: [
    { source: "a", target: "b" },
    { source: "c", target: "d" },
  ],
  layers: [
    ["a", "c"],
    ["b", "d"],
  ],
};

const run = (statuses: Record<string, StepStatus>): RunState => ({
  ...EMPTY_RUN,
  steps: new Map(
    Object.entries(statuses).map(([id, status]) => [id, { ...pendingStep(id), status }]),
  ),
});

test("the API is asked for what was chosen, and for nothing else", () => {
  expect(bodyOf({ from: "", version: "" })).toEqual({});
  expect(bodyOf({ from: "failed", version: "latest" })).toEqual({
    failed: true,
    version: "latest",
  });
  expect(bodyOf({ from: { step: "pages[3]" }, version: "7", input: null })).toEqual({
    from_node: "pages[3]",
    version: 7,
    input: null,
  });
});

test("a rerun of what failed keeps what does not depend on it", () => {
  const failed = run({ a: "success", b: "error", c: "success", d: "success" });
  expect(keptBy("failed", GRAPH, failed)).toEqual(["a", "c", "d"]);
  expect(keptBy({ step: "a" }, GRAPH, failed)).toEqual(["c", "d"]);
  expect(keptBy("", GRAPH, failed)).toEqual([]);
});

test("a map whose item failed runs again, also if it succeeded", () => {
  const collected = run({ a: "success", "a[1]": "error", b: "success", c: "success" });
  expect(failedItemsOf(collected)).toEqual(["a[1]"]);
  expect(keptBy("failed", GRAPH, collected)).toEqual(["c"]);
});
