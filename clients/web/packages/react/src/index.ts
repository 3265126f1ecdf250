/** React hooks over `@tailrace/client`. */

import type {
  Connection,
  FeedView,
  InboxView,
  PipelinesView,
  RequestArguments,
  RouteName,
  Routes,
  RunsView,
  RunView,
  StatsView,
  Store,
  TailraceError,
} from "@tailrace/client";
import { useCallback, useRef, useState } from "react";
import { useClient, useStore } from "./context.js";

export { TailraceProvider, type TailraceProviderProps, useClient } from "./context.js";

const NO_RUN: RunView = { phase: "loading", state: null, events: [], dropped: 0, error: null };
const NOTHING: Store<RunView> = {
  get: () => NO_RUN,
  initial: () => NO_RUN,
  subscribe: () => () => {},
};

/** Follow a run; null follows nothing. */
export function useRun(executionId: string | null): RunView {
  const client = useClient();
  return useStore(executionId === null ? NOTHING : client.run(executionId));
}

/** Follow the newest runs, of one workflow or of all. */
export function useRuns(workflowId?: string): RunsView {
  return useStore(useClient().runs(workflowId));
}

/** Follow the steps that wait for a signal. */
export function useInbox(): InboxView {
  return useStore(useClient().inbox());
}

/** Follow the status of pipelines; ids are compared by content. */
export function usePipelines(ids: readonly string[]): PipelinesView {
  return useStore(useClient().pipelines(ids));
}

/** Follow the tenant's feed. */
export function useFeed(): FeedView {
  return useStore(useClient().feed());
}

/** Follow the tenant's statistics. */
export function useStats(): StatsView {
  return useStore(useClient().stats());
}

/** Follow how the streams are doing. */
export function useConnection(): Connection {
  return useStore(useClient().connection);
}

/** The routes that change something. */
export type CommandRoute = Extract<RouteName, `POST ${string}`>;

export interface CommandState<R extends CommandRoute> {
  /** Send the command. Rejects with a `TailraceError`. */
  readonly send: (...options: RequestArguments<R>) => Promise<Routes[R]["answer"]>;
  readonly phase: "idle" | "sending" | "accepted" | "failed";
  readonly answer: Routes[R]["answer"] | null;
  readonly error: TailraceError | null;
  readonly reset: () => void;
}

type Outcome<R extends CommandRoute> = Omit<CommandState<R>, "send" | "reset">;

/** Send commands of one route, each with an idempotency key of its own. */
export function useCommand<R extends CommandRoute>(route: R): CommandState<R> {
  const client = useClient();
  const idle: Outcome<R> = { phase: "idle", answer: null, error: null };
  const [outcome, setOutcome] = useState(idle);
  const latest = useRef(0);
  const send = useCallback(
    async (...options: RequestArguments<R>) => {
      const number = ++latest.current;
      const settle = (outcome: Outcome<R>) => number === latest.current && setOutcome(outcome);
      settle({ phase: "sending", answer: null, error: null });
      try {
        const answer = await client.request(route, ...options);
        settle({ phase: "accepted", answer, error: null });
        return answer;
      } catch (error) {
        settle({ phase: "failed", answer: null, error: error as TailraceError });
        throw error;
      }
    },
    [client, route],
  );
  const reset = useCallback(() => {
    latest.current += 1;
    setOutcome({ phase: "idle", answer: null, error: null });
  }, []);
  return { ...outcome, send, reset };
}
