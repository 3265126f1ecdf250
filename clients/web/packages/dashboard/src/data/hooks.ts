import { useQuery } from "@tanstack/react-query";
import { every, get, query } from "./api.ts";
import type { RunSummary } from "./types.ts";

export interface RunFilter {
  workflow?: string;
  status?: string;
  limit?: number;
  cursor?: string;
}

/** The newest runs that match, kept current. */
export function useRunList(filter: RunFilter) {
  return useQuery({
    queryKey: ["runs", filter],
    queryFn: () =>
      get<{ runs: RunSummary[]; cursor: string | null }>(
        `api/v1/executions${query({
          workflow_id: filter.workflow,
          status: filter.status,
          limit: filter.limit ?? 50,
          cursor: filter.cursor,
        })}`,
      ),
    refetchInterval: every(2_000),
    placeholderData: (before) => before,
  });
}
