import { useQuery } from "@tanstack/react-query";
import { useEffect, useSyncExternalStore } from "react";
import { get, query } from "./api.ts";
import { type Connection, live, tailrace } from "./live.ts";
import { Store, useStore } from "./store.ts";
import type { PausedEntry, RunSummary } from "./types.ts";

/** A store that follows a topic while somebody reads it. */
abstract class Topic<T> {
  readonly store: Store<T>;
  #readers = 0;
  #close: (() => void) | undefined;
  readonly #topics: () => string[];

  constructor(empty: T, topics: () => string[]) {
    this.store = new Store(empty);
    this.#topics = topics;
  }

  open = (): (() => void) => {
    if (++this.#readers === 1) {
      const closes = this.#topics().map((topic) =>
        live.observe(topic, {
          reset: () => this.reset(topic),
          blocks: (blocks) => {
            for (const block of blocks) this.take(block.event, block.data);
          },
        }),
      );
      this.#close = () => {
        for (const close of closes) close();
      };
    }
    return () => {
      if (--this.#readers === 0) this.#close?.();
    };
  };

  protected abstract reset(topic: string): void;
  protected abstract take(event: string, data: unknown): void;
}

function useTopic<T>(topic: Topic<T>): T {
  useEffect(() => topic.open(), [topic]);
  return useStore(topic.store);
}

export interface Inbox {
  ready: boolean;
  entries: PausedEntry[];
  total: number;
}

class InboxTopic extends Topic<Inbox> {
  constructor() {
    super({ ready: false, entries: [], total: 0 }, () => ["paused"]);
  }

  protected reset(): void {
    this.store.set({ ready: false, entries: [], total: 0 });
  }

  protected take(event: string, data: unknown): void {
    if (event === "paused.initial") {
      const { pausedWorkflows, total } = data as { pausedWorkflows: PausedEntry[]; total?: number };
      this.#show(pausedWorkflows, total);
      return;
    }
    const entry = data as PausedEntry & { resumedFrom?: string };
    const gone = entry.resumedFrom ?? entry.pausedAt;
    const others = this.store.newest.entries.filter(
      (each) =>
        each.executionId !== entry.executionId || (gone !== undefined && each.pausedAt !== gone),
    );
    this.#show(event === "workflow.paused" ? [entry, ...others] : others);
  }

  #show(entries: PausedEntry[], total = entries.length): void {
    this.store.set({ ready: true, entries, total });
  }
}

const inbox = new InboxTopic();
export const useInbox = (): Inbox => useTopic(inbox);

export interface FeedEvent {
  /** The order of arrival. */
  key: number;
  type: "progress" | "stage" | "completion" | "error" | "connected";
  poId: string;
  workflowId: string;
  executionId: string;
  timestamp: number;
  message?: string;
  stage?: string;
  status?: string;
  progress?: number;
  error?: string;
  duration_ms?: number;
}

class FeedTopic extends Topic<FeedEvent[]> {
  constructor() {
    super([], () => ["feed"]);
  }

  #taken = 0;

  protected reset(): void {}

  protected take(_event: string, data: unknown): void {
    const event = { ...(data as FeedEvent), key: ++this.#taken };
    if (event.type !== "connected") this.store.set([event, ...this.store.newest].slice(0, 200));
  }
}

const feed = new FeedTopic();
export const useFeed = (): FeedEvent[] => useTopic(feed);

export const useConnection = (): Connection =>
  useSyncExternalStore(tailrace.connection.subscribe, tailrace.connection.get);

export interface RunFilter {
  workflow?: string;
  status?: string;
  limit?: number;
  cursor?: string;
}

/** The newest runs that match, kept current. */
export function useRuns(filter: RunFilter) {
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
    refetchInterval: 2_000,
    placeholderData: (before) => before,
  });
}
