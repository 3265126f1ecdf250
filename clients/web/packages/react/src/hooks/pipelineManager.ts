import {
  type Connection,
  createClient,
  type JsonValue,
  type TailraceClient,
} from "@tailrace/client";

export type PipelineStatus = "idle" | "active" | "paused" | "failed" | "completed";

export type SSEConnectionState =
  | "disconnected"
  | "connecting"
  | "connected"
  | "reconnecting"
  | "error";

export interface SSEManagerConfig {
  /** Default `/ui-api/pipeline/status/stream`. */
  endpoint?: string;
  /** Default 5. */
  maxReconnectAttempts?: number;
  /** Default 1,000 ms. */
  reconnectDelay?: number;
  /** Default 30,000 ms. */
  maxReconnectDelay?: number;
  /** Default 45,000 ms. */
  heartbeatTimeout?: number;
  /** Default true. */
  enablePollingFallback?: boolean;
  /** Whether to log what happens to the console. Default false. */
  debug?: boolean;
  /** Default true; false polls only. */
  sse?: boolean;
  /** The client whose address, token and organisation are used. Default: that of the page. */
  client?: TailraceClient;
}

export interface SSEStatusUpdateEvent {
  type: "status_update";
  timestamp: number;
  pipelineId: string;
  status: PipelineStatus;
  previousStatus?: PipelineStatus;
}

export interface SSEBatchUpdateEvent {
  type: "batch_update";
  timestamp: number;
  updates: Array<{ pipelineId: string; status: PipelineStatus }>;
}

export interface SSEHeartbeatEvent {
  type: "heartbeat";
  timestamp: number;
}

export interface SSEErrorEvent {
  type: "error";
  timestamp: number;
  pipelineId?: string;
  message: string;
}

export type SSEEvent =
  | SSEStatusUpdateEvent
  | SSEBatchUpdateEvent
  | SSEHeartbeatEvent
  | SSEErrorEvent;

export type StatusListener = (pipelineId: string, status: PipelineStatus) => void;
export type ConnectionListener = (state: SSEConnectionState) => void;

/** The event of the window that a fallback to polling fires. */
export const FALLBACK_EVENT = "sse-fallback-triggered";

/** How long what is on the screen must stay the same before the stream learns of it, in ms. */
const VISIBLE_MS = 1_000;
const ENDPOINT = "/ui-api/pipeline/status/stream";

/** Follows the status of pipelines over one stream: that of all ids that some component needs. */
export class PipelineSSEManager {
  static #instance: PipelineSSEManager | null = null;
  readonly #config: SSEManagerConfig;
  readonly #client: TailraceClient;
  readonly #counts = new Map<string, number>();
  readonly #hidden = new Map<string, number>();
  readonly #statuses = new Map<string, PipelineStatus>();
  readonly #statusListeners = new Set<StatusListener>();
  readonly #connectionListeners = new Set<ConnectionListener>();
  readonly #stopConnection: () => void;
  #stop: () => void = () => {};
  #path = "";
  #ids = "";
  #later: ReturnType<typeof setTimeout> | undefined;
  #isScheduled = false;
  #connection: Connection;

  /** Return the manager that all components share; the first call decides its configuration. */
  static getInstance(config: SSEManagerConfig = {}): PipelineSSEManager {
    PipelineSSEManager.#instance ??= new PipelineSSEManager(config);
    return PipelineSSEManager.#instance;
  }

  /** Close the shared manager; the next `getInstance` makes another. */
  static destroy(): void {
    PipelineSSEManager.#instance?.destroy();
  }

  constructor(config: SSEManagerConfig) {
    this.#config = config;
    const { endpoint = ENDPOINT, sse = true } = config;
    const options = config.client?.options ?? {};
    const isAddress = !endpoint.startsWith("/");
    this.#client = createClient({
      ...options,
      ...(isAddress ? { baseUrl: new URL(endpoint).origin } : {}),
      transport: sse ? "fetch" : "polling",
      stream: { ...options.stream, ...timesOf(config) },
    });
    this.#connection = this.#client.connection.get();
    this.#stopConnection = this.#client.connection.subscribe(() => this.#connected());
  }

  destroy(): void {
    if (PipelineSSEManager.#instance === this) PipelineSSEManager.#instance = null;
    clearTimeout(this.#later);
    this.#stop();
    this.#stopConnection();
    this.#client.close();
    this.#statusListeners.clear();
    this.#connectionListeners.clear();
  }

  getPipelineStatus(pipelineId: string): PipelineStatus | undefined {
    return this.#statuses.get(pipelineId);
  }

  /** Follow pipelines; the same ids must be unsubscribed. Those on the screen are `visible`. */
  subscribe(pipelineIds: string | readonly string[], visible = true): void {
    for (const id of [pipelineIds].flat()) {
      this.#counts.set(id, (this.#counts.get(id) ?? 0) + 1);
      if (!visible) this.#hidden.set(id, (this.#hidden.get(id) ?? 0) + 1);
    }
    this.#schedule();
  }

  unsubscribe(pipelineIds: string | readonly string[], visible = true): void {
    for (const id of [pipelineIds].flat()) {
      decrement(this.#counts, id);
      if (!visible) decrement(this.#hidden, id);
    }
    this.#schedule();
  }

  /** Call a listener for each change of a status; return how to stop. */
  addStatusListener(listener: StatusListener): () => void {
    this.#statusListeners.add(listener);
    return () => this.#statusListeners.delete(listener);
  }

  /** Call a listener for each change of the connection's state; return how to stop. */
  addConnectionListener(listener: ConnectionListener): () => void {
    this.#connectionListeners.add(listener);
    return () => this.#connectionListeners.delete(listener);
  }

  getConnectionState(): SSEConnectionState {
    return this.#connection.state;
  }

  isFallbackActive(): boolean {
    return this.#connection.detail === "polling" && this.#config.sse !== false;
  }

  /** Leave polling, and try the stream again. */
  resetFallback(): void {
    this.#client.reconnect();
  }

  disconnect(): void {
    this.#client.disconnect();
  }

  reconnect(): void {
    this.#client.reconnect();
  }

  // Components mount one after the other; their ids make one stream. What is on the screen changes
  // with every turn of the wheel, and only decides how soon an update is sent.
  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    queueMicrotask(() => {
      this.#isScheduled = false;
      clearTimeout(this.#later);
      const ids = [...this.#counts.keys()].sort().join();
      if (ids !== this.#ids) this.#follow();
      else this.#later = setTimeout(() => this.#follow(), VISIBLE_MS);
      this.#ids = ids;
    });
  }

  #follow(): void {
    const ids = [...this.#counts.keys()].sort();
    const visible = ids.filter((id) => (this.#hidden.get(id) ?? 0) < (this.#counts.get(id) ?? 0));
    const { endpoint = ENDPOINT } = this.#config;
    const base = endpoint.startsWith("/") ? endpoint : new URL(endpoint).pathname;
    const list = (names: string[]) => names.map(encodeURIComponent).join(",");
    const some = visible.length && visible.length < ids.length ? `&visible=${list(visible)}` : "";
    const path = ids.length ? `${base}?pipelineIds=${list(ids)}${some}` : "";
    if (path === this.#path) return;
    this.#path = path;
    const stop = this.#stop;
    this.#stop = () => {};
    if (path) {
      this.#log(`Connecting to ${path}`);
      this.#stop = this.#client.observe(path, {
        reset() {},
        blocks: (blocks) => {
          for (const { data } of blocks) this.#apply(data);
        },
        ended: (reason) => this.#log(`Stream ended: ${reason ?? "complete"}`),
      });
    }
    stop();
  }

  #apply(event: JsonValue): void {
    if (event?.type === "batch_update") {
      this.#log(`Batch update: ${event.updates.length} pipelines`);
      for (const { pipelineId, status } of event.updates) this.#set(pipelineId, status);
    } else if (event?.type === "status_update") {
      const before = event.previousStatus ?? this.#statuses.get(event.pipelineId) ?? "unknown";
      this.#log(`Status update: ${event.pipelineId} ${before} -> ${event.status}`);
      this.#set(event.pipelineId, event.status);
    } else if (event?.type === "error") this.#log(`Error: ${event.pipelineId}: ${event.message}`);
  }

  #set(pipelineId: string, status: PipelineStatus): void {
    if (this.#statuses.get(pipelineId) === status) return;
    this.#statuses.set(pipelineId, status);
    for (const listener of [...this.#statusListeners]) listener(pipelineId, status);
  }

  #connected(): void {
    const wasFallback = this.isFallbackActive();
    const before = this.#connection.state;
    this.#connection = this.#client.connection.get();
    const isFallback = this.isFallbackActive();
    const { state } = this.#connection;
    if (state === before && isFallback === wasFallback) return;
    if (state === "connected") this.#log("Connection established");
    if (isFallback && !wasFallback) {
      this.#log("Fallback to polling");
      globalThis.dispatchEvent?.(new CustomEvent(FALLBACK_EVENT));
    }
    for (const listener of [...this.#connectionListeners]) listener(state);
  }

  #log(message: string): void {
    if (this.#config.debug) console.log(`[SSE Manager] ${message}`);
  }
}

function decrement(counts: Map<string, number>, id: string): void {
  const count = (counts.get(id) ?? 0) - 1;
  if (count > 0) counts.set(id, count);
  else counts.delete(id);
}

function timesOf(config: SSEManagerConfig) {
  const { maxReconnectAttempts, reconnectDelay, maxReconnectDelay } = config;
  const { heartbeatTimeout, enablePollingFallback } = config;
  const all = { maxReconnectAttempts, reconnectDelay, maxReconnectDelay, heartbeatTimeout };
  const given = Object.entries({ ...all, enablePollingFallback });
  return Object.fromEntries(given.filter(([, value]) => value !== undefined));
}
