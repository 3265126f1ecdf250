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
  TailraceClient,
  TailraceError,
} from "@tailrace/client";
import type { ReactElement, ReactNode } from "react";

export interface TailraceProviderProps {
  readonly client: TailraceClient;
  readonly children?: ReactNode;
}

/** Make a client available to the hooks below it. Without one they share a default client. */
export declare function TailraceProvider(props: TailraceProviderProps): ReactElement;

/** Return the client of the nearest provider. */
export declare function useClient(): TailraceClient;

/** Follow a run; null follows nothing. */
export declare function useRun(executionId: string | null): RunView;

export declare function useRuns(workflowId?: string): RunsView;

export declare function useInbox(): InboxView;

/** Follow the status of pipelines; ids are compared by content. */
export declare function usePipelines(ids: readonly string[]): PipelinesView;

export declare function useFeed(): FeedView;

export declare function useStats(): StatsView;

export declare function useConnection(): Connection;

/** The routes whose answer names an execution. */
export type CommandRoute = Extract<RouteName, `POST ${string}`>;

export interface CommandState<R extends CommandRoute> {
  /** Send the command. Rejects with a `TailraceError`. */
  readonly send: (...options: RequestArguments<R>) => Promise<Routes[R]["answer"]>;
  readonly phase: "idle" | "sending" | "accepted" | "failed";
  readonly answer: Routes[R]["answer"] | null;
  readonly error: TailraceError | null;
  readonly reset: () => void;
}

/** Send commands of one route, one at a time, each with an idempotency key of its own. */
export declare function useCommand<R extends CommandRoute>(route: R): CommandState<R>;
