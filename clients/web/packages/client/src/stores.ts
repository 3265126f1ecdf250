/** Values that a page shows, each kept current by the blocks of its sources. */

import { Fold } from "./fold.js";
import type { Event, PausedWorkflow, RunSummary } from "./generated.js";
import type {
  FeedEvent,
  FeedView,
  InboxView,
  LoggedEvent,
  Observer,
  PipelineStatus,
  PipelinesView,
  Reducer,
  RunsView,
  RunView,
  Source,
  StatsView,
  Store,
} from "./types.js";

export type Observe = (source: Source, observer: Observer) => () => void;

/** Return a store that observes its sources while it has subscribers. */
export function storeOf<T>(
  observe: Observe,
  sources: readonly Source[],
  reducer: Reducer<T>,
): Store<T> {
  const listeners = new Set<() => void>();
  const initial = reducer.view();
  let value = initial;
  let stop: (() => void) | null = null;
  const publish = () => {
    value = reducer.view();
    for (const listener of [...listeners]) listener();
  };
  const observerOf = (): Observer => {
    // A reset shows only with what follows it: an empty page between the two would flicker.
    return {
      reset: () => reducer.reset(),
      blocks(blocks) {
        for (const block of blocks) reducer.block(block);
        publish();
      },
      ended(reason) {
        reducer.ended(reason);
        publish();
      },
    };
  };
  return {
    get: () => value,
    initial: () => initial,
    subscribe(listener) {
      const own = () => listener();
      listeners.add(own);
      if (stop === null) {
        const stops = sources.map((source) => observe(source, observerOf()));
        stop = () => {
          for (const each of stops) each();
        };
      }
      return () => {
        listeners.delete(own);
        if (listeners.size) return;
        stop?.();
        stop = null;
      };
    },
  };
}

export function runReducer(maxEvents: number): Reducer<RunView> {
  let fold = new Fold();
  let events: LoggedEvent[] = [];
  let dropped = 0;
  let phase: RunView["phase"] = "loading";
  let error: string | null = null;
  return {
    reset() {
      fold = new Fold();
      events = [];
      dropped = 0;
      phase = "loading";
      error = null;
    },
    block({ event, data, id }) {
      if (typeof data?.timestamp !== "string" || !data.data || !data.type) return;
      phase = "live";
      fold.apply(data as Event);
      events.push({ ...data, type: event, id });
      if (events.length > maxEvents * 1.1) {
        const excess = events.length - maxEvents;
        events.splice(0, excess);
        dropped += excess;
      }
    },
    ended(reason) {
      if (reason === null) phase = "ended";
      else if (phase === "loading") [phase, error] = ["missing", reason];
      else error = reason;
    },
    view() {
      const hidden = Math.max(0, events.length - maxEvents);
      return {
        phase,
        state: phase === "live" || phase === "ended" ? fold.state : null,
        events: events.slice(hidden),
        dropped: dropped + hidden,
        error,
      };
    },
  };
}

const MAX_RUNS = 200;
const NEW_RUN = {
  status: "queued",
  started_at: null,
  finished_at: null,
  duration_ms: null,
  error: null,
} as const;

export function runsReducer(): Reducer<RunsView> {
  let runs = new Map<string, RunSummary>();
  let ready = false;
  let error: string | null = null;
  return {
    reset() {
      runs = new Map();
      ready = false;
      error = null;
    },
    block({ event, data }) {
      ready = true;
      const listed: readonly RunSummary[] | undefined = data?.runs;
      if (listed) runs = new Map(listed.map((run) => [run.execution_id, run]));
      // A change has what identifies the run, and the fields that are new.
      else if (event === "run")
        runs.set(data.execution_id, { ...NEW_RUN, ...runs.get(data.execution_id), ...data });
    },
    ended(reason) {
      error = reason;
    },
    view() {
      // Ids of executions begin with their time.
      const newest = [...runs.values()].sort((one, other) =>
        one.execution_id < other.execution_id ? 1 : -1,
      );
      for (const { execution_id } of newest.splice(MAX_RUNS)) runs.delete(execution_id);
      return { ready, runs: newest, error };
    },
  };
}

const keyOf = (executionId: string, node: string) => `${executionId} ${node}`;

export function inboxReducer(): Reducer<InboxView> {
  let entries = new Map<string, PausedWorkflow>();
  let unlisted = 0;
  let ready = false;
  let error: string | null = null;
  const remove = (executionId: string, node: string | undefined) => {
    if (node !== undefined) {
      if (!entries.delete(keyOf(executionId, node))) unlisted = Math.max(0, unlisted - 1);
      return;
    }
    for (const [key, entry] of entries) if (entry.executionId === executionId) entries.delete(key);
  };
  return {
    reset() {
      entries = new Map();
      unlisted = 0;
      ready = false;
      error = null;
    },
    block({ event, data }) {
      ready = true;
      if (event === "paused.initial") {
        const listed: readonly PausedWorkflow[] = data.pausedWorkflows ?? [];
        entries = new Map(listed.map((each) => [keyOf(each.executionId, each.pausedAt), each]));
        unlisted = Math.max(0, (data.total ?? 0) - listed.length);
      } else if (event === "workflow.paused")
        entries.set(keyOf(data.executionId, data.pausedAt), data);
      else if (event === "workflow.resumed") remove(data.executionId, data.resumedFrom);
      else if (event === "workflow.cancelled") remove(data.executionId, data.pausedAt);
    },
    ended(reason) {
      error = reason;
    },
    view() {
      const newest = [...entries.values()].sort((one, other) =>
        one.pausedTime < other.pausedTime ? 1 : one.pausedTime > other.pausedTime ? -1 : 0,
      );
      return { ready, entries: newest, total: newest.length + unlisted, error };
    },
  };
}

export function pipelinesReducer(): Reducer<PipelinesView> {
  let statuses = new Map<string, PipelineStatus>();
  let errors = new Map<string, string>();
  let ready = false;
  return {
    // Each pipeline may be a source of its own, so a reset of one forgets none of the others.
    reset() {},
    block({ event, data }) {
      ready = true;
      statuses = new Map(statuses);
      errors = new Map(errors);
      if (event === "error") errors.set(data.pipelineId, data.message);
      const updates = event === "status_update" ? [data] : (data?.updates ?? []);
      for (const { pipelineId, status } of updates) {
        statuses.set(pipelineId, status);
        errors.delete(pipelineId);
      }
      for (const { pipelineId, message } of data?.errors ?? []) errors.set(pipelineId, message);
    },
    ended() {},
    view: () => ({ ready, statuses, errors }),
  };
}

const MAX_FEED = 100;
const FEED = new Set(["progress", "stage", "completion", "error"]);

export function feedReducer(): Reducer<FeedView> {
  let events: FeedEvent[] = [];
  let ready = false;
  return {
    reset() {
      events = [];
      ready = false;
    },
    block({ event, data }) {
      ready = true;
      if (FEED.has(event)) events = [data as FeedEvent, ...events].slice(0, MAX_FEED);
    },
    ended() {},
    view: () => ({ ready, events }),
  };
}

type Stats = NonNullable<StatsView["stats"]>;
type Counts = Pick<Stats, "active_runs" | "ended" | "last_hour" | "success_rate">;
type Ended = keyof Stats["ended"];

/** Count a run that was created or has ended. */
function counted<T extends Counts>(counts: T, status: Ended | "queued"): T {
  if (status === "queued") return { ...counts, active_runs: counts.active_runs + 1 };
  const more = (ended: Stats["ended"]) => ({ ...ended, [status]: ended[status] + 1 });
  const last_hour = more(counts.last_hour);
  const judged = last_hour.completed + last_hour.failed;
  return {
    ...counts,
    active_runs: Math.max(0, counts.active_runs - 1),
    ended: more(counts.ended),
    last_hour,
    success_rate: judged ? last_hour.completed / judged : null,
  };
}

export function statsReducer(): Reducer<StatsView> {
  let stats: Stats | null = null;
  return {
    reset() {},
    block({ event, data }) {
      if (event === "stats.initial") stats = data;
      else if (event === "stats.run" && stats !== null)
        stats = {
          ...counted(stats, data.status),
          timestamp: data.timestamp,
          workflows: stats.workflows.map((workflow) =>
            workflow.workflow_id === data.workflow_id ? counted(workflow, data.status) : workflow,
          ),
        };
    },
    ended() {},
    view: () => ({ ready: stats !== null, stats }),
  };
}
