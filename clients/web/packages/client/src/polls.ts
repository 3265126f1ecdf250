/** What to request for a source while no stream can be opened, and the blocks that it stands for. */

import type { JsonValue, RunDocument } from "./generated.js";
import type { Source } from "./types.js";

export interface Poll {
  readonly path: string;
  /** Return `[event, data, id]` of each block. */
  blocks(answer: JsonValue): (readonly [string, JsonValue, string])[];
}

const one = (path: string, event: string): Poll => ({
  path,
  blocks: (answer) => [[event, answer, ""]],
});

const run = (id: string): Poll => ({
  path: `/api/v1/executions/${id}?include_logs=true`,
  blocks: ({ logs = [] }: RunDocument) =>
    logs.map(({ id, ...event }) => [event.type, event, id] as const),
});

/** Return the poll of a source; null if only its stream shows it. */
export function pollOf(source: Source): Poll | null {
  const [path = "", query = ""] = source.split("?");
  const [kind, id = ""] = path.split(":");
  const execution = /^\/api\/v1\/sse\/executions\/([^/]+)\/stream$/.exec(path)?.[1];
  if (kind === "execution" || execution) return run(execution ?? id);
  if (kind === "paused" || path.endsWith("/paused-stream"))
    return one(path.startsWith("/") ? path.slice(0, -7) : "/api/workflow/paused", "paused.initial");
  if (kind === "pipeline") return one(`/ui-api/pipeline/status?pipelineIds=${id}`, "batch_update");
  if (path.endsWith("/pipeline/status/stream"))
    return one(`${path.slice(0, -7)}?${query}`, "batch_update");
  if (kind === "runs" || kind === "tag") {
    const filter = id && `&${kind === "tag" ? "tag" : "workflow_id"}=${id}`;
    return one(`/api/v1/executions?limit=200${filter}`, "runs.initial");
  }
  if (kind === "stats") return one("/api/realtime/stats", "stats.initial");
  return null;
}
