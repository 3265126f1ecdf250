import { get } from "../data/api.ts";
import type { RunDocument } from "../data/types.ts";
import { clock } from "../ui/format.ts";

/** Return which decision on a step was first, as the log has it; empty if that cannot be read. */
export async function winnerOf(execution: string, node: string): Promise<string> {
  const path = `api/v1/executions/${execution}?include_logs=true`;
  const document = await get<RunDocument>(path).catch(() => null);
  if (!document) return "";
  const found = document.logs?.findLast(
    ({ type, data }) =>
      type === "command:requested" && (data as { node_id?: string } | null)?.node_id === node,
  );
  if (!found) return "The wait is over: it timed out, or the run was cancelled.";
  const { actor, decision } = found.data as { actor?: string; decision?: string };
  return `${actor || "Another caller"} was first: ${decision ?? "resumed"} at ${clock(found.timestamp)}.`;
}
