import {
  inboxReducer,
  type JsonValue,
  type PausedList,
  type PausedWorkflow,
} from "@tailrace/client";
import { useCallback, useState } from "react";
import { useEndpoint, useView } from "../context.js";

export interface UsePausedWorkflowsOptions {
  /** Default `/api/workflow`. */
  readonly apiBaseUrl?: string;
  /** Ignored: the list is streamed. */
  readonly autoRefresh?: boolean;
  /** Ignored: the list is streamed. */
  readonly refreshInterval?: number;
}

/** Follow the paused workflows: one entry for each step that waits. */
export function usePausedWorkflows({
  apiBaseUrl = "/api/workflow",
}: UsePausedWorkflowsOptions = {}) {
  const [client, base] = useEndpoint(apiBaseUrl);
  const view = useView(client, [`${base}/paused-stream`], inboxReducer);
  const [polled, setPolled] = useState<readonly PausedWorkflow[] | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  const call = useCallback(
    async (route: string, body?: unknown): Promise<JsonValue> => {
      try {
        // The routes of the default base are typed; those of another base have the same shapes.
        const options = body === undefined ? {} : { body };
        const answer = await client.request(route as "POST /api/workflow/resume", options as never);
        setFailure(null);
        return answer;
      } catch (error) {
        setFailure((error as Error).message);
        throw error;
      }
    },
    [client],
  );
  const refresh = useCallback(async () => {
    const { pausedWorkflows = [] } = (await call(`GET ${base}/paused`)) as PausedList;
    setPolled(pausedWorkflows);
  }, [base, call]);
  const resume = useCallback(
    (executionId: string, data?: unknown, node?: string) =>
      call(`POST ${base}/resume`, { executionId, data, ...(node === undefined ? {} : { node }) }),
    [base, call],
  );
  const cancel = useCallback(
    (executionId: string) => call(`POST ${base}/cancel`, { executionId }),
    [base, call],
  );
  return {
    // An answer may be older than the stream, so it counts only before the stream's snapshot.
    pausedWorkflows: view.ready ? view.entries : (polled ?? view.entries),
    isLoading: !view.ready && polled === null,
    error: view.error ?? failure,
    ...{ refresh, resume, cancel },
  };
}
