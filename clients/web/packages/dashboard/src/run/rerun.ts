/** What a rerun is asked to do, and what of the run it keeps. Pure. */
import type { Again, GraphDocument, Json } from "../data/types.ts";
import { nodeOf, type RunState } from "./fold.ts";
import { descendantsOf } from "./shape.ts";

export interface Choices {
  /** All steps, those that have not succeeded, or the step or item to begin at. */
  from: "" | "failed" | { step: string };
  /** The version to run; empty for that of the run. */
  version: string;
  /** Another input; undefined for that of the run. */
  input?: Json | undefined;
}

/** Items of maps that are offered to begin at. */
const MAX_ITEMS = 50;

export function bodyOf({ from, version, input }: Choices): Again {
  return {
    ...(from === "failed" ? { failed: true } : from ? { from_node: from.step } : {}),
    ...(version ? { version: version === "latest" ? "latest" : Number(version) } : {}),
    ...(input === undefined ? {} : { input }),
  };
}

/** Return the nodes whose outputs are kept if the version and the input stay the same. */
export function keptBy(from: Choices["from"], graph: GraphDocument, run: RunState): string[] {
  const nodes = graph.layers.flat();
  if (from === "") return [];
  const isDone = (id: string) => run.steps.get(id)?.status === "success";
  const begin =
    from === "failed"
      ? [...failedItemsOf(run).map(nodeOf), ...nodes.filter((id) => !isDone(id))]
      : [nodeOf(from.step)];
  const again = descendantsOf(graph, begin);
  return nodes.filter((id) => !again.has(id) && isDone(id));
}

export function failedItemsOf(run: RunState): string[] {
  return [...run.steps.values()]
    .filter(({ node_id, status }) => node_id !== nodeOf(node_id) && status === "error")
    .slice(0, MAX_ITEMS)
    .map(({ node_id }) => node_id);
}
