/** A clock, a network and a server that a test moves by hand. */

import { createClientWith, type Parts } from "../src/client.js";
import type { Channel, Locks, Shared } from "../src/group.js";
import type { Host } from "../src/host.js";
import * as leader from "../src/leader.js";
import type { Block, ClientOptions, Observer, Source, TailraceClient } from "../src/types.js";
import { lead, type WorkerSetup } from "../src/worker.js";

const BASE = "http://tailrace.test";

/** Let everything happen that needs no time. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** A request as the server sees it. */
export class Connection {
  readonly url: URL;
  readonly headers: Headers;
  readonly method: string;
  isAborted = false;
  isOver = false;
  #answer!: (response: Response) => void;
  #fail!: (error: Error) => void;
  #body: ReadableStreamDefaultController<Uint8Array> | null = null;
  #problem: ReadableStreamDefaultController<Uint8Array> | null = null;
  readonly response: Promise<Response>;

  constructor(url: string, init: RequestInit) {
    this.url = new URL(url);
    this.headers = new Headers(init.headers);
    this.method = init.method ?? "GET";
    this.response = new Promise((resolve, reject) => {
      this.#answer = resolve;
      this.#fail = reject;
    });
    init.signal?.addEventListener("abort", () => {
      this.isAborted = true;
      const reason = new DOMException("aborted", "AbortError");
      this.#problem?.error(reason);
      this.#drop(reason);
    });
  }

  get lastEventId(): string {
    return this.headers.get("Last-Event-ID") ?? "";
  }

  get isLive(): boolean {
    return !this.isAborted && !this.isOver;
  }

  get topics(): string[] {
    return (this.url.searchParams.get("topics") ?? "").split(",").filter(Boolean);
  }

  /** Begin the stream. */
  open(): this {
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#body = controller;
      },
    });
    this.#answer(new Response(body, { headers: { "Content-Type": "text/event-stream" } }));
    return this;
  }

  reject(status: number, headers: Record<string, string> = {}): void {
    this.isOver = true;
    // The rest of the body comes when it is read, so an abort before that is an error of it.
    const body = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#problem = controller;
        },
        pull: (controller) => {
          this.#problem = null;
          controller.enqueue(new TextEncoder().encode("{}"));
          controller.close();
        },
      },
      { highWaterMark: 0 },
    );
    this.#answer(new Response(status === 204 ? null : body, { status, headers }));
  }

  json(value: unknown): void {
    this.isOver = true;
    this.#answer(Response.json(value));
  }

  send(bytes: string | Uint8Array): void {
    if (!this.isLive) return;
    this.#body?.enqueue(typeof bytes === "string" ? new TextEncoder().encode(bytes) : bytes);
  }

  /** Send a block of a stream of several topics. */
  topic(topic: string, event: string, data: unknown, id: string): void {
    const text = JSON.stringify({ topic, event, data });
    this.send(`event: ${topic}\ndata: ${text}\n${id ? `id: ${id}\n` : ""}\n`);
  }

  end(): void {
    if (!this.isLive) return;
    this.isOver = true;
    if (this.#body) this.#body.close();
    else this.#fail(new TypeError("network error"));
  }

  cut(): void {
    this.#drop(new TypeError("terminated"));
  }

  #drop(error: Error): void {
    if (this.isOver) return;
    this.isOver = true;
    if (this.#body) this.#body.error(error);
    else this.#fail(error);
  }
}

interface Timer {
  readonly at: number;
  readonly run: () => void;
}

export class World implements Host {
  time = 1_000_000;
  chance: () => number = () => 0.5;
  readonly connections: Connection[] = [];
  readonly #timers = new Set<Timer>();
  /** Answers requests at once; null leaves them to the test. */
  serve: ((connection: Connection) => void) | null = null;

  now(): number {
    return this.time;
  }

  random(): number {
    return this.chance();
  }

  timer(run: () => void, ms: number): () => void {
    const timer = { at: this.time + Math.max(0, ms), run };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  frame(run: () => void): void {
    this.timer(run, 16);
  }

  async fetch(url: string, init: RequestInit): Promise<Response> {
    if (init.signal?.aborted) throw new DOMException("aborted", "AbortError");
    const connection = new Connection(url, init);
    this.connections.push(connection);
    this.serve?.(connection);
    return connection.response;
  }

  get streams(): Connection[] {
    return this.connections.filter(({ headers }) => headers.get("Accept") === "text/event-stream");
  }

  get live(): Connection[] {
    return this.streams.filter((connection) => connection.isLive);
  }

  /** The newest stream; fails if there is none. */
  get stream(): Connection {
    const stream = this.streams.at(-1);
    if (stream === undefined) throw new Error("no stream was opened");
    return stream;
  }

  get isIdle(): boolean {
    return this.#timers.size === 0;
  }

  /** Let time pass, with everything that is due in it. */
  async pass(ms: number): Promise<void> {
    const end = this.time + ms;
    await settle();
    for (;;) {
      const due = [...this.#timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.#timers.delete(due);
      this.time = Math.max(this.time, due.at);
      due.run();
      await settle();
    }
    this.time = end;
    await settle();
  }

  /** Stop the clock of this machine for a while: its timers run late. */
  sleep(ms: number): void {
    this.time += ms;
  }

  client(options: ClientOptions = {}, parts: Parts = {}): TailraceClient {
    const defaults = { baseUrl: BASE, sharing: "none" } as const;
    return createClientWith(
      { ...defaults, ...options },
      {
        host: this,
        shared: null,
        load: async () => leader,
        ...parts,
      },
    );
  }
}

/** Notes what an observer is told. */
export class Notes implements Observer {
  readonly all: Block[] = [];
  /** What came since the last reset. */
  current: Block[] = [];
  readonly resets: string[] = [];
  readonly ends: (string | null)[] = [];
  calls = 0;

  blocks(blocks: readonly Block[]): void {
    this.calls += 1;
    this.all.push(...blocks);
    this.current.push(...blocks);
  }

  reset(reason: string): void {
    this.resets.push(reason);
    this.current = [];
  }

  ended(reason: string | null): void {
    this.ends.push(reason);
  }

  get ids(): string[] {
    return this.current.map((block) => block.id).filter(Boolean);
  }
}

export function note(client: TailraceClient, source: Source): [Notes, () => void] {
  const notes = new Notes();
  return [notes, client.observe(source, notes)];
}

/** Locks and channels of one browser, with tabs that can be killed and frozen. */
export class Browser {
  readonly #channels = new Map<string, Set<FakeChannel>>();
  readonly #queues = new Map<string, Ask[]>();

  tab(): Tab {
    return new Tab(this.#channels, this.#queues);
  }

  /** Return how to make the parts of a tab of a worker, which starts with the first one. */
  worker(world: World): () => Parts {
    let isStarted = false;
    const startWorker = (setup: WorkerSetup) => {
      const worker = this.tab();
      if (!isStarted) lead(worker.host(world), worker, setup);
      isStarted = true;
      return true;
    };
    return () => {
      const tab = this.tab();
      return { host: tab.host(world), shared: tab, startWorker };
    };
  }
}

interface Ask {
  readonly tab: Tab;
  readonly start: () => void;
  readonly stolen: () => void;
  isHeld: boolean;
}

class FakeChannel implements Channel {
  onmessage: ((event: MessageEvent) => void) | null = null;
  readonly tab: Tab;
  readonly #peers: Set<FakeChannel>;

  constructor(tab: Tab, peers: Set<FakeChannel>) {
    this.tab = tab;
    this.#peers = peers;
    peers.add(this);
  }

  postMessage(message: unknown): void {
    this.tab.do(() => this.#post(message));
  }

  #post(message: unknown): void {
    for (const peer of this.#peers)
      if (peer !== this)
        peer.tab.do(() => peer.onmessage?.({ data: structuredClone(message) } as MessageEvent));
  }

  close(): void {
    this.#peers.delete(this);
  }
}

export class Tab implements Shared, Locks {
  isDead = false;
  isFrozen = false;
  readonly locks: Locks = this;
  readonly connections: Connection[] = [];
  readonly #channels: Map<string, Set<FakeChannel>>;
  readonly #queues: Map<string, Ask[]>;
  readonly #waiting: (() => void)[] = [];

  constructor(channels: Map<string, Set<FakeChannel>>, queues: Map<string, Ask[]>) {
    this.#channels = channels;
    this.#queues = queues;
  }

  /** A host whose timers stop with the tab. */
  host(world: World): Host {
    return {
      now: () => world.now(),
      random: () => world.random(),
      timer: (run, ms) => world.timer(() => this.do(run), ms),
      frame: (run) => world.frame(() => this.do(run)),
      fetch: (url, init) => {
        const response = world.fetch(url, init);
        const connection = world.connections.at(-1);
        if (connection) this.connections.push(connection);
        return response;
      },
    };
  }

  /** Run something in this tab: later if it is frozen, never if it is dead. */
  do(run: () => void): void {
    if (this.isDead) return;
    if (this.isFrozen) this.#waiting.push(run);
    else queueMicrotask(() => (this.isDead ? undefined : run()));
  }

  channel(name: string): Channel {
    const peers = this.#channels.get(name) ?? new Set();
    this.#channels.set(name, peers);
    return new FakeChannel(this, peers);
  }

  request(
    name: string,
    options: { steal?: boolean; signal?: AbortSignal },
    run: () => Promise<unknown>,
  ): Promise<unknown> {
    const queue = this.#queues.get(name) ?? [];
    this.#queues.set(name, queue);
    return new Promise((resolve, reject) => {
      const stolen = () => this.do(() => reject(new DOMException("stolen", "AbortError")));
      const ask: Ask = {
        tab: this,
        isHeld: false,
        stolen,
        start: () => {
          ask.isHeld = true;
          this.do(() => {
            void run()
              .then(resolve, reject)
              .finally(() => this.#leave(queue, ask));
          });
        },
      };
      options.signal?.addEventListener("abort", () => {
        if (ask.isHeld) return;
        this.#leave(queue, ask);
        reject(new DOMException("aborted", "AbortError"));
      });
      if (options.steal) {
        for (const held of queue.filter((each) => each.isHeld)) {
          held.stolen();
          queue.splice(queue.indexOf(held), 1);
        }
        queue.unshift(ask);
      } else queue.push(ask);
      this.#next(queue);
    });
  }

  /** End the tab without a word, as a crash does. */
  kill(): void {
    this.isDead = true;
    for (const connection of this.connections) connection.cut();
    for (const queue of this.#queues.values()) {
      for (const ask of queue.filter(({ tab }) => tab === this))
        queue.splice(queue.indexOf(ask), 1);
      this.#next(queue);
    }
  }

  freeze(): void {
    this.isFrozen = true;
  }

  thaw(): void {
    this.isFrozen = false;
    for (const run of this.#waiting.splice(0)) this.do(run);
  }

  #leave(queue: Ask[], ask: Ask): void {
    const index = queue.indexOf(ask);
    if (index >= 0) queue.splice(index, 1);
    this.#next(queue);
  }

  #next(queue: Ask[]): void {
    const [first] = queue;
    if (first && !first.isHeld) first.start();
  }
}
