/**
 * What the streams have delivered, in every tab that shares them: the blocks of each source since
 * its snapshot, and each stream's cursor.
 *
 * The tab or worker that holds the streams (the leader) feeds its own mirror and sends the same
 * deliveries to the others. So any tab can take over with the cursors of its mirror, and a
 * subscriber that comes late is served without a request.
 */

import type { Host } from "./host.js";
import type { Block, Connection, Observer, Source } from "./types.js";

/** A stream as its leader opened it, from which another leader can go on. */
export interface StreamPlace {
  readonly id: number;
  readonly sources: readonly Source[];
  /** The last id received over this URL; empty for none. */
  readonly cursor: string;
  /** The id and the sources that the URL goes on from, after a change of its topics. */
  readonly since: string;
  readonly carried: readonly Source[];
}

export type Delivery =
  | {
      readonly type: "blocks";
      readonly stream: number;
      readonly cursor: string | null;
      readonly items: readonly (readonly [Source, Block])[];
      /** Whether more of a snapshot follows: nothing is shown before its end, or 100 ms. */
      readonly opening: boolean;
    }
  | {
      readonly type: "reset";
      readonly sources: readonly Source[];
      readonly reason: string;
      /** The position that the sources go on from, which only some subscribers know; else empty. */
      readonly after?: string;
    }
  | { readonly type: "ended"; readonly sources: readonly Source[]; readonly reason: string | null }
  | { readonly type: "places"; readonly places: readonly StreamPlace[] }
  | { readonly type: "connection"; readonly connection: Partial<Connection> };

/** What some tab wants; `visible` if it is on a screen. */
export interface Wish {
  readonly source: Source;
  readonly visible: boolean;
  /** The position that the subscriber can go on from; empty for none. */
  after: string;
}

interface SourceState {
  blocks: Block[];
  /** Whether `blocks` has everything since the snapshot, or since `after`. */
  isWhole: boolean;
  after: string;
  ended: string | null | undefined;
}

/** A mirror's content, for a tab that joins. */
export interface Copy {
  readonly sources: readonly (readonly [Source, SourceState])[];
  readonly places: readonly StreamPlace[];
  readonly connection: Connection;
}

interface Watcher {
  readonly wish: Wish;
  readonly observer: Observer;
  /** Whether it has been told where its blocks begin. */
  isServed: boolean;
  pending: Block[];
  reset: string | null;
  ended: string | null | undefined;
}

const MAX_BLOCKS = 20_000;
/** A list changes for as long as its page is open; its snapshot is smaller than so many changes. */
const MAX_CHANGES = 1_000;
const MAX_RECENT = 100;
const MAX_ENDED = 20;
const CATCH_UP_MS = 100;
const RESUMED = "resumed";

/** Sources that begin with what comes, so only their newest blocks are kept. */
const isWithoutSnapshot = (source: Source) =>
  source === "feed" || source.startsWith("/api/realtime/events");

const isOfOneRun = (source: Source) => /^(execution:|\/.*\/executions\/)/.test(source);

export const IDLE: Connection = {
  state: "disconnected",
  detail: null,
  cause: null,
  lastEventId: "",
  attempt: 0,
  nextAttemptAt: null,
  behindMs: null,
  transport: null,
  sharing: "none",
  leads: false,
  tabs: 1,
  streams: 0,
};

export class Mirror {
  connection: Connection = IDLE;
  places: readonly StreamPlace[] = [];
  readonly #host: Host;
  readonly #sources = new Map<Source, SourceState>();
  readonly #watchers = new Set<Watcher>();
  readonly #listeners = new Set<() => void>();
  #isScheduled = false;
  /** Whether a snapshot is arriving, of which nothing is shown yet. */
  #isHeld = false;
  #hasChanged = false;

  constructor(host: Host) {
    this.#host = host;
  }

  /** Watch the connection. */
  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Whether a source's blocks are all here, so that nothing must be asked of the server. */
  has(source: Source): boolean {
    return this.#sources.get(source)?.isWhole ?? false;
  }

  /** Whether a source was opened but its first blocks are gone: it must begin again. */
  isStale(source: Source): boolean {
    return this.#sources.get(source)?.isWhole === false;
  }

  isOver(source: Source): boolean {
    return this.#sources.get(source)?.ended !== undefined;
  }

  /** The position that a source's blocks go on from; empty if they begin with the snapshot. */
  after(source: Source): string {
    return this.#sources.get(source)?.after ?? "";
  }

  /** Return the position of a stream, and the sources that have been opened at it. */
  openedBy({ cursor, since, sources, carried }: StreamPlace): [string, readonly Source[]] {
    // The id of a position in an opening names what has been opened after a tilde.
    const [position, inside] = cursor.split("~");
    return [position || since, position && inside === undefined ? sources : carried];
  }

  /** Return the position after the blocks that all watchers of a source have; null if unknown. */
  position(source: Source): string | null {
    const place = this.places.find(({ sources }) => sources.includes(source));
    if (!place || this.#of(source).some(({ pending, reset }) => pending.length || reset))
      return null;
    const [position, opened] = this.openedBy(place);
    return (opened.includes(source) && position) || null;
  }

  watch(wish: Wish, observer: Observer): () => void {
    const watcher: Watcher = {
      wish,
      observer,
      isServed: false,
      pending: [],
      reset: null,
      ended: undefined,
    };
    this.#watchers.add(watcher);
    this.#serve(watcher, "opened");
    this.#schedule(false);
    return () => this.#watchers.delete(watcher);
  }

  /** Begin with all blocks of a source, if they are here and the watcher knows what was before. */
  #serve(watcher: Watcher, reason: string): void {
    const { wish } = watcher;
    const state = this.#sources.get(wish.source);
    if (!state?.isWhole) return;
    const { after, blocks, ended } = state;
    watcher.isServed = !after || after === wish.after;
    watcher.pending = watcher.isServed ? [...blocks] : [];
    watcher.reset = watcher.isServed ? (after ? RESUMED : reason) : null;
    watcher.ended = ended;
    // Now it has not what was before the position any more.
    if (!after) wish.after = "";
  }

  apply(delivery: Delivery): void {
    switch (delivery.type) {
      case "blocks":
        this.#blocks(delivery);
        break;
      case "reset":
        for (const source of delivery.sources)
          this.#reset(source, delivery.reason, delivery.after ?? "");
        break;
      case "ended":
        for (const source of delivery.sources) this.#end(source, delivery.reason);
        break;
      case "places":
        this.places = delivery.places;
        this.#evict();
        break;
      case "connection":
        this.connect(delivery.connection);
        break;
    }
  }

  copy(): Copy {
    return {
      sources: [...this.#sources],
      places: this.places,
      connection: this.connection,
    };
  }

  /** Become a copy: every watcher begins again. */
  load(copy: Copy): void {
    this.#sources.clear();
    for (const [source, state] of copy.sources) this.#sources.set(source, { ...state });
    this.places = copy.places;
    this.connect(copy.connection);
    for (const watcher of this.#watchers) this.#serve(watcher, "opened");
    this.#schedule(false);
  }

  /** Change what this tab alone knows of its connection. */
  connect(change: Partial<Connection>): void {
    this.connection = { ...this.connection, ...change };
    this.#hasChanged = true;
    this.#schedule(false);
  }

  #of(source: Source): Watcher[] {
    return [...this.#watchers].filter(({ wish }) => wish.source === source);
  }

  #blocks({ stream, cursor, items, opening }: Delivery & { type: "blocks" }): void {
    for (const [source, block] of items) {
      const state = this.#sources.get(source);
      if (state === undefined) continue;
      if (isWithoutSnapshot(source)) {
        state.blocks.push(block);
        if (state.blocks.length > 2 * MAX_RECENT) state.blocks.splice(0, MAX_RECENT);
      } else if (state.isWhole) {
        state.blocks.push(block);
        if (state.blocks.length > (isOfOneRun(source) ? MAX_BLOCKS : MAX_CHANGES)) {
          state.blocks = [];
          state.isWhole = false;
        }
      }
      for (const watcher of this.#of(source)) if (watcher.isServed) watcher.pending.push(block);
    }
    if (cursor !== null) {
      this.places = this.places.map((place) =>
        place.id === stream ? { ...place, cursor } : place,
      );
      const behindMs = opening ? null : delayOf(items.at(-1)?.[1]);
      const { connection } = this;
      this.connection = {
        ...connection,
        lastEventId: cursor,
        behindMs: behindMs ?? connection.behindMs,
      };
      this.#hasChanged = true;
    }
    if (!opening) this.#isHeld = false;
    this.#schedule(opening);
  }

  /** Forget sources that no stream serves any more, but for the runs that ended last. */
  #evict(): void {
    const placed = new Set(this.places.flatMap((place) => place.sources));
    const loose = [...this.#sources].filter(([source]) => !placed.has(source));
    const ended = loose.filter(([, state]) => state.ended !== undefined);
    const kept = new Set(ended.slice(-MAX_ENDED));
    for (const entry of loose)
      if (!kept.has(entry) && !(entry[1].ended !== undefined && this.#of(entry[0]).length))
        this.#sources.delete(entry[0]);
  }

  #reset(source: Source, reason: string, after: string): void {
    this.#sources.set(source, { blocks: [], isWhole: true, after, ended: undefined });
    for (const watcher of this.#of(source)) this.#serve(watcher, reason);
  }

  #end(source: Source, reason: string | null): void {
    const state = this.#sources.get(source);
    if (state === undefined)
      this.#sources.set(source, { blocks: [], isWhole: true, after: "", ended: reason });
    else state.ended = reason;
    for (const watcher of this.#of(source)) watcher.ended = reason;
    this.#schedule(false);
  }

  #schedule(opening: boolean): void {
    if (opening && !this.#isHeld) {
      this.#isHeld = true;
      this.#host.timer(() => {
        this.#isHeld = false;
        this.#schedule(false);
      }, CATCH_UP_MS);
    }
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    this.#host.frame(() => this.#flush());
  }

  #flush(): void {
    this.#isScheduled = false;
    for (const watcher of this.#isHeld ? [] : [...this.#watchers]) {
      const { pending, reset, ended, observer } = watcher;
      watcher.pending = [];
      watcher.reset = null;
      watcher.ended = undefined;
      try {
        if (reset !== null) observer.reset(reset);
        if (pending.length) observer.blocks(pending);
        if (ended !== undefined) observer.ended(ended);
      } catch (error) {
        // The page learns of it, and the other subscribers go on.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
    if (!this.#hasChanged) return;
    this.#hasChanged = false;
    for (const listener of [...this.#listeners]) listener();
  }
}

/** Return how long ago a block was sent, in ms. */
function delayOf(block: Block | undefined): number | null {
  const stamp = block?.data?.timestamp;
  const sent = typeof stamp === "string" ? Date.parse(stamp) : stamp;
  return block && typeof sent === "number" ? Math.max(0, block.at - sent) : null;
}
