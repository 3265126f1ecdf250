/**
 * Holds the streams: in one tab, in a worker for all tabs, or in each tab by itself.
 *
 * It opens as few streams as it can: topics share one, up to `maxTopics` of them, and each
 * dedicated stream has its own. When topics change, the stream goes on from its cursor and only
 * new topics begin with a snapshot.
 */

import type { Host } from "./host.js";
import { type Input, type Pause, shown } from "./link.js";
import type { Delivery, Mirror, StreamPlace, Wish } from "./mirror.js";
import { pollOf } from "./polls.js";
import { type Credentials, type RawBlock, Stream } from "./stream.js";
import type { Times } from "./times.js";
import type { Block, ClientOptions, Connection, Source } from "./types.js";

export interface LeaderOptions {
  readonly baseUrl: string;
  readonly maxTopics: number;
  readonly times: Times;
  readonly transport: NonNullable<ClientOptions["transport"]>;
}

/** Changes of wishes within this time are one change of the streams, in ms. */
const SETTLE_MS = 50;
const SETTLE_MAX_MS = 250;
/** How long an unwanted source stays on a stream, in ms: a page may come back to it. */
const LINGER_MS = 1_000;
const OPENING_MS = 100;
/** The server's limit is 16 KiB. */
const MAX_URL_CHARS = 12_000;

const TERMINAL = /^execution:(completed|failed|cancelled)$/;
/** The id of a position in an opening names what has been opened after a tilde. */
const isInside = (cursor: string) => cursor.includes("~");
const isPath = (source: Source) => source.startsWith("/");

class Held implements StreamPlace {
  readonly id: number;
  sources: Source[];
  cursor = "";
  since = "";
  carried: Source[] = [];
  /** Sources that begin anew with the first block of the next connection. */
  fresh: Set<Source>;
  /** Sources that are to begin anew although this connection has them. */
  readonly again = new Set<Source>();
  stream!: Stream;
  openingUntil: number | null = null;
  isPolling = false;
  stopPolling: () => void = () => {};

  constructor(id: number, sources: Source[]) {
    this.id = id;
    this.sources = sources;
    this.fresh = new Set(sources);
  }
}

export class Leader {
  readonly #host: Host;
  readonly #options: LeaderOptions;
  readonly #credentials: Credentials;
  readonly #mirror: Mirror;
  readonly #emit: (delivery: Delivery) => void;
  readonly #held = new Map<number, Held>();
  readonly #pauses = new Set<Pause>();
  #wishes = new Map<Source, { visible: boolean; after: string }>();
  #settle: (() => void) | null = null;
  #settleBy = 0;
  #cancelPrune: () => void = () => {};
  #nextId: number;
  #told = "";
  readonly #isPollOnly: boolean;
  readonly #fetch: Host["fetch"];

  /** @param emit passes a delivery to this mirror and to those of other tabs. */
  constructor(
    host: Host,
    options: LeaderOptions,
    credentials: Credentials,
    mirror: Mirror,
    emit: (delivery: Delivery) => void,
  ) {
    this.#host = host;
    this.#options = options;
    this.#isPollOnly = options.transport === "polling";
    this.#fetch =
      options.transport === "eventsource"
        ? async (url, init) =>
            (await import("./eventsource.js")).open(host, options.baseUrl, url, init)
        : (url, init) => host.fetch(url, init);
    this.#credentials = credentials;
    this.#mirror = mirror;
    this.#emit = emit;
    this.#nextId = Math.max(0, ...mirror.places.map((place) => place.id + 1));
    for (const place of mirror.places) {
      const held = this.#hold([...place.sources], place.id);
      held.cursor = place.cursor;
      held.since = place.since;
      held.carried = [...place.carried];
      held.fresh = new Set(place.sources.filter((source) => !mirror.has(source)));
      for (const source of held.fresh)
        if (place.cursor || place.carried.includes(source)) held.again.add(source);
    }
  }

  /** Serve these sources, and no others. */
  want(wishes: readonly Wish[]): void {
    this.#wishes = new Map();
    for (const { source, visible, after } of wishes) {
      const known = this.#wishes.get(source) ?? { visible: false, after };
      this.#wishes.set(source, {
        visible: visible || known.visible,
        after: after === known.after ? after : "",
      });
      // A subscriber lacks what was before the position.
      const begun = this.#mirror.after(source);
      if (begun && begun !== after) this.restart(source);
    }
    this.#settleSoon();
  }

  /** Begin a source again, for a subscriber that came after its first blocks were dropped. */
  restart(source: Source): void {
    for (const held of this.#held.values())
      if (held.sources.includes(source) && !held.fresh.has(source)) held.again.add(source);
    this.#settleSoon();
  }

  setVisible(isVisible: boolean): void {
    if (this.#options.times.pauseWhenHidden) this.hold("hidden", !isVisible);
  }

  /** Pause for a reason, or resume when it is gone. */
  hold(reason: Pause, isPaused: boolean): void {
    if (isPaused) this.#pauses.add(reason);
    else this.#pauses.delete(reason);
    this.#all({ type: isPaused ? "pause" : "resume", reason });
    if (!this.#isPollOnly) return;
    for (const held of this.#held.values())
      if (isPaused) this.#poll(held, false);
      else this.#start(held);
  }

  /** Check connections after a sleep of the machine. */
  wake(): void {
    this.#all({ type: "wake" });
  }

  reconnect(): void {
    this.#pauses.delete("manual");
    this.#pauses.delete("unauthorized");
    this.#all({ type: "reconnect" });
  }

  close(): void {
    this.#settle?.();
    this.#cancelPrune();
    for (const held of this.#held.values()) this.#drop(held);
  }

  #all(input: Input): void {
    for (const held of [...this.#held.values()]) held.stream.input(input);
  }

  // Wishes change in bursts: a page mounts its components, an id is typed.
  #settleSoon(): void {
    const now = this.#host.now();
    if (this.#settle === null) this.#settleBy = now + SETTLE_MAX_MS;
    this.#settle?.();
    const ms = this.#held.size ? Math.min(SETTLE_MS, this.#settleBy - now) : 0;
    this.#settle = this.#host.timer(
      () => {
        this.#settle = null;
        this.#reconcile(false);
      },
      Math.max(0, ms),
    );
  }

  #needed(source: Source): boolean {
    return this.#wishes.has(source) && !(this.#mirror.isOver(source) && this.#mirror.has(source));
  }

  #reconcile(prunes: boolean): void {
    const held = [...this.#held.values()];
    const placed = new Set(held.flatMap((each) => each.sources));
    const added = [...this.#wishes]
      .filter(([source]) => !placed.has(source) && this.#needed(source))
      .sort(([, one], [, other]) => Number(other.visible) - Number(one.visible))
      .map(([source]) => source);
    let hasChanged = false;
    for (const each of held) {
      if (isPath(each.sources[0] ?? "")) continue;
      const kept = each.sources.filter((source) => this.#needed(source));
      // A position belongs to a whole stream: what goes on from another one gets its own.
      const room = added.filter((source) => !isPath(source) && !this.#wishes.get(source)?.after);
      const restarts = kept.some((source) => each.again.has(source));
      const isFull = () =>
        kept.length >= this.#options.maxTopics || kept.join().length > MAX_URL_CHARS;
      let grows = false;
      for (const source of room) {
        if (isFull()) break;
        kept.push(source);
        added.splice(added.indexOf(source), 1);
        grows = true;
      }
      const shrinks = prunes && kept.length < each.sources.length;
      if (kept.length && (grows || shrinks || restarts)) {
        this.#change(each, kept);
        hasChanged = true;
      }
    }
    for (const each of held) {
      const path = each.sources[0] ?? "";
      if (isPath(path) && each.again.delete(path)) {
        each.cursor = "";
        each.fresh.add(path);
        each.stream.input({ type: "restart" });
      }
      if (each.sources.some((source) => this.#needed(source))) continue;
      // An ended run needs no stream; what is only unwanted may be wanted again in a moment.
      const isOver = each.sources.every((source) => this.#mirror.isOver(source));
      const { phase } = each.stream.link;
      if (prunes || isOver || (phase !== "opening" && phase !== "open")) {
        this.#drop(each);
        hasChanged = true;
      }
    }
    const opened: Held[] = [];
    for (const source of added.filter(isPath)) opened.push(this.#hold([source]));
    const topics = added.filter((source) => !isPath(source));
    while (topics.length) opened.push(this.#hold(topics.splice(0, this.#options.maxTopics)));
    for (const each of opened) this.#goOn(each);
    if (hasChanged || opened.length) this.#place();
    for (const each of opened) this.#start(each);
    for (const each of held) if (this.#held.has(each.id)) this.#start(each);
    this.#cancelPrune();
    const isSpare = (each: Held) => each.sources.some((source) => !this.#needed(source));
    if ([...this.#held.values()].some(isSpare))
      this.#cancelPrune = this.#host.timer(() => this.#reconcile(true), LINGER_MS);
    this.#tell();
  }

  #start(held: Held): void {
    if (this.#isPollOnly) {
      if (!this.#pauses.size && !held.isPolling) this.#poll(held, true);
      return;
    }
    if (held.stream.link.phase !== "idle" || held.stream.link.pauses.length) return;
    for (const reason of this.#pauses) held.stream.input({ type: "pause", reason });
    held.stream.input({ type: "start" });
  }

  #hold(sources: Source[], id = this.#nextId++): Held {
    const held = new Held(id, sources);
    const { times } = this.#options;
    held.stream = new Stream(this.#host, this.#fetch, times, this.#credentials, {
      target: () => this.#target(held),
      received: (blocks, cursor) => this.#received(held, blocks, cursor),
      changed: () => this.#tell(),
      poll: (on) => this.#poll(held, on),
      over: (reason) => this.#emit({ type: "ended", sources: held.sources, reason }),
    });
    this.#held.set(id, held);
    return held;
  }

  /** Let sources of a new stream go on from where their subscribers are. */
  #goOn(held: Held): void {
    const afterOf = (source: Source) => this.#wishes.get(source)?.after;
    const after = held.sources.map(afterOf).find(Boolean);
    if (!after) return;
    held.since = after;
    held.carried = held.sources.filter((source) => afterOf(source) === after);
    for (const source of held.carried) held.fresh.delete(source);
    this.#emit({ type: "reset", sources: held.carried, reason: "resumed", after });
  }

  #drop(held: Held): void {
    held.stopPolling();
    this.#held.delete(held.id);
    held.stream.input({ type: "stop" });
  }

  #place(): void {
    const places = [...this.#held.values()].map(({ id, sources, cursor, since, carried }) => ({
      id,
      sources: [...sources],
      cursor,
      since,
      carried: [...carried],
    }));
    this.#emit({ type: "places", places });
  }

  /** Go on with other topics: those that have been opened from the cursor, the others anew. */
  #change(held: Held, sources: Source[]): void {
    const [since, opened] = this.#mirror.openedBy(held);
    const isNew = (source: Source) => held.fresh.has(source) || held.again.has(source);
    held.carried = since
      ? opened.filter((source) => sources.includes(source) && !isNew(source))
      : [];
    held.since = held.carried.length ? since : "";
    held.cursor = "";
    held.sources = sources;
    held.fresh = new Set(sources.filter((source) => !held.carried.includes(source)));
    held.again.clear();
    held.stream.input({ type: "restart" });
  }

  #target(held: Held): { url: string; lastEventId: string } {
    const base = this.#options.baseUrl;
    const first = held.sources[0] ?? "";
    held.openingUntil = null;
    if (isPath(first)) return { url: base + first, lastEventId: held.cursor };
    const topics = encodeURIComponent([...held.sources].sort().join());
    const since = held.since
      ? `&since=${encodeURIComponent(held.since)}&since_topics=${encodeURIComponent(held.carried.join())}`
      : "";
    return {
      url: `${base}/api/v1/sse/stream?topics=${topics}${since}`,
      lastEventId: held.cursor,
    };
  }

  #received(held: Held, blocks: readonly RawBlock[], cursor: string | null): void {
    if (held.fresh.size) {
      this.#emit({ type: "reset", sources: [...held.fresh], reason: "opened" });
      held.fresh.clear();
      held.openingUntil = this.#host.now() + OPENING_MS;
    }
    const now = this.#host.now();
    let items: (readonly [Source, Block])[] = [];
    const ended = new Map<Source, string | null>();
    const flush = (cursor: string | null) => {
      if (cursor !== null) held.cursor = cursor;
      const isEdge = isPath(held.sources[0] ?? "") || !cursor || !isInside(cursor);
      if (held.openingUntil !== null && (isEdge || now > held.openingUntil))
        held.openingUntil = null;
      const opening = held.openingUntil !== null;
      this.#emit({ type: "blocks", stream: held.id, cursor, items, opening });
      items = [];
    };
    for (const raw of blocks) {
      if (raw.event === "stream:position") continue;
      if (raw.event === "stream:reset") {
        // The position is that after the whole chunk.
        flush(null);
        const reason = String(parsed(raw.data)?.reason ?? "unknown");
        this.#emit({ type: "reset", sources: held.sources, reason });
        ended.clear();
        continue;
      }
      const data = parsed(raw.data);
      const [source, block] = isPath(held.sources[0] ?? "")
        ? [held.sources[0] as Source, { event: raw.event, data, id: raw.id, at: now }]
        : [raw.event, { event: String(data?.event), data: data?.data, id: raw.id, at: now }];
      items.push([source, block]);
      if (source.startsWith("execution:")) {
        if (TERMINAL.test(block.event)) ended.set(source, null);
        if (block.event === "error" && !block.id) ended.set(source, String(block.data?.message));
      }
    }
    flush(cursor);
    for (const [source, reason] of ended) this.#emit({ type: "ended", sources: [source], reason });
    if (ended.size) this.#settleSoon();
  }

  #poll(held: Held, on: boolean): void {
    held.stopPolling();
    held.stopPolling = () => {};
    held.isPolling = on;
    if (!on) return;
    let isOn = true;
    let cancel = () => {};
    const last = new Map<Source, string>();
    const again = async () => {
      const due = held.sources.filter((source) => this.#needed(source));
      await Promise.allSettled(due.map((source) => this.#pollOne(held, source, last, () => isOn)));
      if (isOn) cancel = this.#host.timer(() => void again(), this.#options.times.pollingInterval);
    };
    held.stopPolling = () => {
      isOn = false;
      cancel();
    };
    void again();
  }

  async #pollOne(
    held: Held,
    source: Source,
    last: Map<Source, string>,
    isOn: () => boolean,
  ): Promise<void> {
    const poll = pollOf(source);
    if (poll === null) return;
    const headers = { ...(await this.#credentials.headers()), Accept: "application/json" };
    const response = await this.#host.fetch(this.#options.baseUrl + poll.path, { headers });
    if (!response.ok) return;
    const text = await response.text();
    // What a stream has delivered meanwhile is newer.
    if (!isOn() || last.get(source) === text) return;
    last.set(source, text);
    held.cursor = held.since = "";
    held.carried = [];
    held.fresh = new Set(held.sources);
    // No position of the stream belongs to what is polled.
    this.#place();
    const at = this.#host.now();
    const items = poll
      .blocks(JSON.parse(text))
      .map(([event, data, id]) => [source, { event, data, id, at }] as const);
    this.#emit({ type: "reset", sources: [source], reason: "polled" });
    this.#emit({ type: "blocks", stream: held.id, cursor: null, items, opening: false });
    if (items.some(([, block]) => TERMINAL.test(block.event)))
      this.#emit({ type: "ended", sources: [source], reason: null });
  }

  /** Tell how the streams are doing, if that has changed. */
  #tell(): void {
    const links = [...this.#held.values()].map((held) => held.stream.link);
    const ranked = ["error", "reconnecting", "connecting", "connected", "disconnected"] as const;
    const worst = links
      .map((link) => ({ link, ...shown(link) }))
      .sort((one, other) => ranked.indexOf(one.state) - ranked.indexOf(other.state))[0];
    const pause = [...this.#pauses][0] ?? null;
    const polls = this.#isPollOnly && pause === null && links.length > 0;
    const connection: Partial<Connection> = {
      state: polls ? "connected" : (worst?.state ?? "disconnected"),
      detail: polls ? "polling" : worst ? worst.detail : pause,
      cause: worst?.link.cause ?? null,
      attempt: worst?.link.attempt ?? 0,
      nextAttemptAt: worst?.link.due ?? null,
      transport:
        polls || worst?.link.polling
          ? "polling"
          : worst?.link.isLive
            ? this.#options.transport
            : null,
      // A stream that changes its topics is not gone.
      streams: links.filter((link) => shown(link).state === "connected").length,
    };
    const text = JSON.stringify(connection);
    if (text === this.#told) return;
    this.#told = text;
    this.#emit({ type: "connection", connection });
  }
}

function parsed(text: string) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
