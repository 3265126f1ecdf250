import type { JsonValue, Reducer, Store } from "@tailrace/client";
import { clientOf } from "../clients.js";
import { useClient, useStore } from "../context.js";

export interface ExecutionEvent {
  readonly type: string;
  /** The whole parsed block: `{type, data, timestamp}`. */
  readonly data: JsonValue;
  readonly timestamp: string;
}

export type StreamStatus =
  | "connecting"
  | "connected"
  | "completed"
  | "failed"
  | "cancelled"
  | "disconnected";

interface ExecutionStream {
  readonly events: readonly ExecutionEvent[];
  readonly status: StreamStatus;
  readonly error: string | null;
}

const path = (executionId: string) => `/api/v1/sse/executions/${executionId}/stream`;

function executionReducer(): Reducer<ExecutionStream> {
  let events: ExecutionEvent[] = [];
  let status: StreamStatus = "connecting";
  let error: string | null = null;
  return {
    reset() {
      [events, status, error] = [[], "connecting", null];
    },
    block({ event, data }) {
      if (status === "connecting") status = "connected";
      if (event === "connected") return;
      events = [...events, { type: event, data, timestamp: data.timestamp }];
      const ended = /^execution:(completed|failed|cancelled)$/.exec(event)?.[1];
      if (ended) status = ended as StreamStatus;
      if (event === "execution:failed") error = data.data?.error_message ?? "unknown error";
    },
    ended(reason) {
      if (reason !== null) [status, error] = ["disconnected", reason];
    },
    view: () => ({ events, status, error }),
  };
}

const NONE: ExecutionStream = { events: [], status: "disconnected", error: null };
const NOTHING: Store<ExecutionStream> = {
  get: () => NONE,
  initial: () => NONE,
  subscribe: () => () => {},
};

function useClientOf(token: string, organization: string) {
  const { baseUrl = "" } = useClient().options;
  return clientOf({ baseUrl, token, organization });
}

/** Follow an execution; null opens nothing, and another argument begins anew. */
export function useExecutionStream(executionId: string | null, token: string, orgId: string) {
  const client = useClientOf(token, orgId);
  const source = executionId === null ? null : path(executionId);
  const stream = useStore(source === null ? NOTHING : client.view([source], executionReducer));
  const { state } = useStore(client.connection);
  const isLost = state === "reconnecting" || state === "error";
  const status: StreamStatus =
    isLost && stream.status === "connected" ? "disconnected" : stream.status;
  return { ...stream, status };
}

type Listener = (event: { readonly type: string; readonly data: string }) => void;

/** An execution's stream, for code without React. */
export interface ExecutionSubscription {
  addEventListener(type: string, listener: Listener): void;
  removeEventListener(type: string, listener: Listener): void;
  close(): void;
}

/** Follow an execution; `data` of its events is their text, as an EventSource has it. */
export function subscribeToExecution(
  executionId: string,
  token: string,
  orgId: string,
  baseUrl = "",
): ExecutionSubscription {
  const listeners = new Map<string, Set<Listener>>();
  const close = clientOf({ baseUrl, token, organization: orgId }).observe(path(executionId), {
    reset() {},
    blocks(blocks) {
      for (const { event, data } of blocks)
        for (const listener of listeners.get(event) ?? [])
          listener({ type: event, data: JSON.stringify(data) });
    },
    ended(reason) {
      if (reason !== null)
        for (const listener of listeners.get("error") ?? [])
          listener({ type: "error", data: reason });
    },
  });
  return {
    addEventListener(type, listener) {
      const known = listeners.get(type) ?? new Set();
      listeners.set(type, known.add(listener));
    },
    removeEventListener: (type, listener) => void listeners.get(type)?.delete(listener),
    close,
  };
}
