/** The graph of a run's workflow. */
import { client, get } from "../data/api.ts";
import type { GraphDocument } from "../data/types.ts";
import type { RunState } from "./fold.ts";
import { placed } from "./places.ts";
import { drawingOf } from "./shape.ts";

/** Return the query for the graph of a run. */
export function graphOf({ workflow_id, version }: RunState) {
  return {
    queryKey: ["graph", workflow_id, version],
    queryFn: () => get<GraphDocument>(`api/v1/workflows/${workflow_id}/graph?version=${version}`),
    enabled: workflow_id !== "",
    staleTime: Number.POSITIVE_INFINITY,
  };
}

/** Read the graph of a run, and compute where its steps are drawn. */
export async function prepareGraph(run: RunState): Promise<void> {
  const graph = await client.fetchQuery(graphOf(run));
  await placed(drawingOf(graph, run.steps, new Set()));
}
