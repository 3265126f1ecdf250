import type {
  Event,
  JsonValue,
  PausedWorkflow,
  ProblemDocument,
  Routes,
  RunSummary,
} from "./generated.js";

/** A value that changes. `useSyncExternalStore` takes its two methods as they are. */
export interface Store<T> {
  /** Return the present value: the same object until it changes. */
  get(): T;
  /** Return the value before anything came: what a server renders, and a page hydrates. */
  initial(): T;
  /** Call `listener` after each change, at most once per animation frame. The first subscriber opens the stream. */
  subscribe(listener: () => void): () => void;
}

/** Why no stream is open although it is wanted, or that it has ended. */
export type ConnectionDetail =
  | "polling"
  | "hidden"
  | "offline"
  | "frozen"
  | "manual"
  | "unauthorized"
  | "refused"
  | "ended"
  | "draining";

/** How the streams of this page are doing. */
export interface Connection {
  readonly state: "disconnected" | "connecting" | "connected" | "reconnecting" | "error";
  readonly detail: ConnectionDetail | null;
  /** The cause of the last failure, for people; null while connected. */
  readonly cause: string | null;
  readonly lastEventId: string;
  /** Failed attempts since the last byte of a stream. */
  readonly attempt: number;
  /** When the next attempt begins, in Unix ms; null if none is scheduled. */
  readonly nextAttemptAt: number | null;
  /** Time between the newest event's timestamp and its arrival, in ms; null before the first. */
  readonly behindMs: number | null;
  readonly transport: "fetch" | "eventsource" | "polling" | null;
  /** How the streams are shared between the tabs of this browser. */
  readonly sharing: "worker" | "locks" | "none";
  /** Whether this tab holds the streams; always false with a worker. */
  readonly leads: boolean;
  /** Tabs that share the streams, this one included. */
  readonly tabs: number;
  /** Open streams of all these tabs. */
  readonly streams: number;
}

/** A block of a stream, as a subscriber of its source receives it. */
export interface Block {
  /** The name of the event; `message` for a block without one. */
  readonly event: string;
  /** The parsed data, or its text if it is not JSON. */
  readonly data: JsonValue;
  /** The id of this block; empty if it has none. */
  readonly id: string;
  /** When it arrived, in Unix ms. */
  readonly at: number;
}

/** What a subscriber of a source is told. */
export interface Observer {
  /** Blocks in their order, at most once per animation frame. */
  blocks(blocks: readonly Block[]): void;
  /** Everything received so far is void: the snapshot follows. Also called before the first block. */
  reset(reason: string): void;
  /** The source has no further events, or cannot be served; `reason` is null after a proper end. */
  ended(reason: string | null): void;
}

/** Applies the blocks of its sources, and returns the value that they make. */
export interface Reducer<T> {
  /** Forget everything: a snapshot follows. */
  reset(): void;
  block(block: Block): void;
  /** No further blocks come; `reason` is null after a proper end. */
  ended(reason: string | null): void;
  /** Return the value: a new object after each change. */
  view(): T;
}

/**
 * A source of blocks: a topic of the stream of several topics (`execution:<id>`, `paused`,
 * `pipeline:<id>`, `feed`, `runs`, `runs:<workflow>`, `tag:<tag>`, `stats`), or the path of a
 * dedicated stream, which begins with a slash.
 */
export type Source = string;

/** An event of an execution's log, with its place on the stream. */
export type LoggedEvent = Event & { readonly id: string };

export type ExecutionStatus =
  | "queued"
  | "running"
  | "paused"
  | "completed"
  | "failed"
  | "cancelled";

export type StepStatus =
  | "pending"
  | "running"
  | "waiting"
  | "retrying"
  | "success"
  | "error"
  | "skipped"
  | "cancelled";

/** A run while it is followed. */
export interface RunView {
  /** `loading` until the first block, `live` while it grows, `ended` after its last event. */
  readonly phase: "loading" | "live" | "ended" | "missing";
  /** The state after all received events; null while loading or missing. */
  readonly state: ExecutionState | null;
  /** The newest events, oldest first: at most `maxEvents` of them. */
  readonly events: readonly LoggedEvent[];
  /** Older events that are not in `events`. */
  readonly dropped: number;
  readonly error: string | null;
}

/** The state of one execution: the fold of its events. Objects are never changed in place. */
export interface ExecutionState {
  readonly execution_id: string;
  readonly workflow_id: string;
  readonly workflow_name: string;
  readonly version: number;
  readonly status: ExecutionStatus;
  readonly input: JsonValue;
  readonly output: JsonValue;
  readonly output_omitted: boolean;
  readonly error: string | null;
  readonly created_at: string | null;
  readonly started_at: string | null;
  readonly finished_at: string | null;
  readonly duration_ms: number | null;
  /** Whether a requested pause lasts. */
  readonly held: boolean;
  readonly parent: { readonly execution_id: string; readonly node_id: string } | null;
  readonly rerun_of: string | null;
  readonly from_node: string | null;
  /** Whether it runs only the steps again that had not succeeded. */
  readonly failed_only: boolean;
  /** The firing of a schedule that started the run. */
  readonly scheduled_at: string | null;
  readonly schedule: string | null;
  /** Its tags, those of its definition included. */
  readonly tags: readonly string[];
  /** The group of steps that has begun after the main part; null before that. */
  readonly finishing: "on_failure" | "finally" | null;
  /** The remaining time that the server estimated last, in ms; null without an estimate. */
  readonly eta_ms: number | null;
  /** Steps with events, in the order of their first event. */
  readonly steps: ReadonlyMap<string, StepState>;
  /** Accepted commands by their id, in the order of the log. */
  readonly commands: ReadonlyMap<string, AcceptedCommand>;
  /** Number of events folded. */
  readonly events: number;
  /** Timestamp of the last event. */
  readonly updated_at: string | null;
}

/** A command in the log. */
export interface AcceptedCommand {
  readonly command_id: string;
  readonly command: "cancel" | "pause" | "resume" | "resolve";
  readonly node_id: string | null;
  readonly decision: string | null;
  readonly actor: string;
  readonly at: string;
  /** Whether a worker has applied it. */
  readonly applied: boolean;
}

/** What a step waits for. */
export interface OpenWaiting {
  readonly kind: "time" | "signal" | "child" | "actor" | "retry";
  readonly since: string;
  readonly until: string | null;
  readonly reason: string;
  readonly triggers: readonly string[];
  readonly match: string | null;
  readonly form: JsonValue;
  readonly on_timeout: "cancel" | "fail" | "continue" | null;
  /** Whether the signal is in the log and about to be applied. */
  readonly decided: boolean;
  readonly child_execution_id: string | null;
  readonly child_workflow_id: string | null;
}

/** One step of an execution. */
export interface StepState {
  readonly node_id: string;
  readonly node_type: string;
  readonly name: string;
  readonly stage: string | null;
  readonly status: StepStatus;
  readonly attempt: number;
  readonly started_at: string | null;
  readonly completed_at: string | null;
  readonly duration_ms: number | null;
  readonly output: JsonValue;
  /** Size of an output that the event only refers to, in bytes; null if `output` is the output. */
  readonly output_bytes: number | null;
  readonly error: string | null;
  readonly error_detail: string;
  readonly percent: number | null;
  readonly message: string;
  readonly waiting: OpenWaiting | null;
  /** Number of items of a map; null for other steps. */
  readonly items: number | null;
  /** The execution whose output a rerun reuses. */
  readonly kept_from: string | null;
  readonly skipped_because: "when" | "needs" | null;
}

/** Lists that a stream keeps current; `ready` after their snapshot. */
export interface RunsView {
  readonly ready: boolean;
  /** Newest first. */
  readonly runs: readonly RunSummary[];
  readonly error: string | null;
}

export interface InboxView {
  readonly ready: boolean;
  /** Newest first; one for each waiting step. */
  readonly entries: readonly PausedWorkflow[];
  /** All waiting steps, listed or not. */
  readonly total: number;
  readonly error: string | null;
}

export type PipelineStatus = "idle" | "active" | "paused" | "failed" | "completed";

export interface PipelinesView {
  readonly ready: boolean;
  readonly statuses: ReadonlyMap<string, PipelineStatus>;
  /** Messages about ids that name no workflow. */
  readonly errors: ReadonlyMap<string, string>;
}

/** An event of the tenant's feed. */
export interface FeedEvent {
  readonly type: "progress" | "stage" | "completion" | "error";
  readonly poId: string;
  readonly workflowId?: string;
  readonly executionId?: string;
  readonly nodeId?: string;
  readonly timestamp: number;
  readonly stage?: string;
  readonly status?: "started" | "completed";
  readonly progress?: number;
  readonly message?: string;
  readonly eta_ms?: number | null;
  readonly lineItems?: number;
  readonly confidence?: number;
  readonly duration_ms?: number;
  readonly error?: string;
}

export interface FeedView {
  readonly ready: boolean;
  /** Newest first, at most 100. */
  readonly events: readonly FeedEvent[];
}

export interface StatsView {
  readonly ready: boolean;
  /** Counts are live; latencies, and the throughput by minute, are those of the snapshot. */
  readonly stats: Routes["GET /api/realtime/stats"]["answer"] | null;
}

/** Times of a connection, in ms. */
export interface StreamOptions {
  /** First delay before a reconnect. Default 1,000. The server's `retry:` is the floor. */
  readonly reconnectDelay?: number;
  /** Longest delay. Default 30,000. */
  readonly maxReconnectDelay?: number;
  /** Failed attempts in a row before polling begins. Default 5. */
  readonly maxReconnectAttempts?: number;
  /** Silence after which a connection counts as dead, from its last byte. Default 45,000. */
  readonly heartbeatTimeout?: number;
  /** Whether to poll while no stream can be opened. Default true. */
  readonly enablePollingFallback?: boolean;
  /** Time between two polls. Default 5,000. */
  readonly pollingInterval?: number;
  /** Time between two attempts to open the stream while polling. Default 60,000. */
  readonly probeInterval?: number;
  /** How long a reconnect stays invisible. Default 1,500. */
  readonly reconnectingAfter?: number;
  /** Whether a hidden tab gives up its streams. Default true; they resume when it is visible. */
  readonly pauseWhenHidden?: boolean;
}

export interface ClientOptions {
  /** The address of the API, without a slash at its end. Default: that of the page. */
  readonly baseUrl?: string;
  /** A token, or a function that returns the present one. It is called again after a 401. */
  readonly token?: string | (() => string | null | Promise<string | null>);
  /** The organisation of all requests, where the token holds more than one. */
  readonly organization?: string;
  readonly fetch?: typeof fetch;
  /**
   * `eventsource` opens streams with an EventSource and a ticket, which sees neither heartbeats nor
   * events of unknown names; `polling` never opens a stream. Default `fetch`.
   */
  readonly transport?: "fetch" | "eventsource" | "polling";
  /** How tabs share streams. Default `auto`: a worker, else locks, else each tab alone. */
  readonly sharing?: "auto" | "worker" | "locks" | "none";
  readonly stream?: StreamOptions;
  /** Topics of one stream; the rest goes into further ones. Default 32, the server's default. */
  readonly maxTopics?: number;
  /** Events of a run that its view keeps. Default 10,000. */
  readonly maxEvents?: number;
}

/** The name of an operation, such as `GET /api/v1/workflows/{workflow_id}`. */
export type RouteName = keyof Routes;

/** What a request needs beside its route. */
export type RequestOptions<R extends RouteName> = Omit<Routes[R], "answer"> & {
  /** Makes the request safe to repeat for 24 hours. Commands get one by themselves. */
  readonly idempotencyKey?: string;
  readonly signal?: AbortSignal;
};

type Needed<T> = { [K in keyof T]-?: Record<never, never> extends Pick<T, K> ? never : K }[keyof T];

/** Whether a request needs options at all. */
export type RequestArguments<R extends RouteName> =
  Needed<RequestOptions<R>> extends never
    ? [options?: RequestOptions<R>]
    : [options: RequestOptions<R>];

/** An answer other than a success. */
export interface TailraceError extends Error {
  /** The HTTP status; 0 if no answer came. */
  readonly status: number;
  readonly problem: ProblemDocument | null;
}

export interface TailraceClient {
  readonly options: ClientOptions;
  /** Send a request and return its answer. Rejects with a `TailraceError`. */
  request<R extends RouteName>(
    route: R,
    ...options: RequestArguments<R>
  ): Promise<Routes[R]["answer"]>;
  readonly connection: Store<Connection>;
  /** Follow one run. */
  run(executionId: string): Store<RunView>;
  /** Follow the newest runs, of one workflow or of all. */
  runs(workflowId?: string): Store<RunsView>;
  /** Follow the newest runs with a tag. */
  tagged(tag: string): Store<RunsView>;
  /** Follow the steps that wait for a signal. */
  inbox(): Store<InboxView>;
  pipelines(ids: readonly string[]): Store<PipelinesView>;
  feed(): Store<FeedView>;
  stats(): Store<StatsView>;
  /**
   * Follow some sources by a reducer. Calls with equal sources and the same function share a store,
   * so give a function that is declared once.
   */
  view<T>(sources: readonly Source[], reducer: () => Reducer<T>): Store<T>;
  /** Receive the blocks of a source; sources that are `hidden` are opened last. */
  observe(source: Source, observer: Observer, options?: ObserveOptions): () => void;
  /** Return the position after the blocks of a topic that its subscribers have; null if unknown. */
  position(source: Source): string | null;
  /** Start what holds the streams, so that the first subscriber does not wait for it. */
  prepare(): void;
  /** Close all streams until `reconnect`. */
  disconnect(): void;
  /** Reconnect at once; also leaves polling. */
  reconnect(): void;
  /** Close everything for good. */
  close(): void;
}

export interface ObserveOptions {
  /** Whether the subscriber is on the screen. Default true. */
  readonly visible?: boolean;
  /**
   * A `position` of an execution's topic whose earlier blocks the subscriber has: the stream goes on
   * after it. A reset with the reason `resumed` voids what came after it; any other reset voids the
   * earlier blocks as well.
   */
  readonly after?: string;
}
