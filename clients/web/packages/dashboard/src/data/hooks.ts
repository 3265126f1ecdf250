import { useRuns } from "@tailrace/react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect } from "react";
import { every, get, query } from "./api.ts";
import { parametersOf, type RunFilter } from "./runFilter.ts";
import type { RunList } from "./types.ts";

// Many runs that begin or end together cause one request.
const SETTLE_MS = 200;

/** The newest runs that match: read again when the stream reports a new run or another status. */
export function useRunList(filter: RunFilter) {
  const queries = useQueryClient();
  const { runs } = useRuns(filter.workflow || undefined);
  const statuses = runs.map((run) => `${run.execution_id} ${run.status}`).join();
  // biome-ignore lint/correctness/useExhaustiveDependencies: `statuses` tells when to read again
  useEffect(() => {
    const timer = setTimeout(
      () => void queries.invalidateQueries({ queryKey: ["runs"] }),
      SETTLE_MS,
    );
    return () => clearTimeout(timer);
  }, [statuses, queries]);
  return useQuery({
    queryKey: ["runs", filter],
    queryFn: () => get<RunList>(`api/v1/executions${query(parametersOf(filter, Date.now()))}`),
    // Also while the stream reports changes without a pause, or not at all.
    refetchInterval: every(5_000),
    placeholderData: (before) => before,
  });
}
