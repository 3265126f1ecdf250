import type { Reducer } from "@tailrace/client";
import { useCallback, useState } from "react";
import { useClient, useStore, useView } from "../context.js";

export interface SSEProgressEvent {
  type: "progress";
  poId: string;
  workflowId?: string;
  progress: number;
  message: string;
  timestamp: number;
}

export interface SSEStageEvent {
  type: "stage";
  stage: string;
  poId: string;
  workflowId?: string;
  status: "started" | "completed";
  message: string;
  timestamp: number;
}

export interface SSECompletionEvent {
  type: "completion";
  stage: string;
  poId: string;
  workflowId?: string;
  lineItems?: number;
  confidence?: number;
  timestamp: number;
}

export interface SSEErrorEvent {
  type: "error";
  stage: string;
  poId: string;
  workflowId?: string;
  error: string;
  timestamp: number;
}

export type SSEEvent = SSEProgressEvent | SSEStageEvent | SSECompletionEvent | SSEErrorEvent;

const MAX_EVENTS = 100;
const TYPES = new Set(["progress", "stage", "completion", "error"]);
const NONE: SSEEvent[] = [];

/** A feed has no snapshot, so what a page has seen stays when the stream begins anew. */
function feedReducer(): Reducer<SSEEvent[]> {
  let events = NONE;
  return {
    reset() {},
    block({ event, data }) {
      if (TYPES.has(event)) events = [data as SSEEvent, ...events].slice(0, MAX_EVENTS);
    },
    ended() {},
    view: () => events,
  };
}

export interface UseSSEUpdatesOptions {
  /** Default: the organisation of the client. */
  readonly merchantId?: string;
}

/** Follow a merchant's orders: the newest 100 events, newest first. */
export function useSSEUpdates({ merchantId }: UseSSEUpdatesOptions = {}) {
  const client = useClient();
  const merchant = merchantId ?? client.options.organization;
  const query = merchant === undefined ? "" : `?merchantId=${encodeURIComponent(merchant)}`;
  const all = useView(client, [`/api/realtime/events${query}`], feedReducer);
  const { state } = useStore(client.connection);
  const [cleared, setCleared] = useState<SSEEvent | undefined>();
  const end = cleared === undefined ? -1 : all.indexOf(cleared);
  const clearEvents = useCallback(() => setCleared(all[0]), [all]);
  const reconnect = useCallback(() => client.reconnect(), [client]);
  const isLost = state === "reconnecting" || state === "error";
  return {
    events: end < 0 ? all : all.slice(0, end),
    isConnected: state === "connected",
    error: isLost ? "Connection lost. Reconnecting..." : null,
    ...{ clearEvents, reconnect },
  };
}
