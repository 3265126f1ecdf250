/** Compose a client from its parts. */

import { subjectOf, Tokens } from "./credentials.js";
import { type Channel, Group, type LeaderLoader, type Locks, type Shared } from "./group.js";
import { browserHost, type Host } from "./host.js";
import type { Leader, LeaderOptions } from "./leader.js";
import { IDLE, Mirror, type Wish } from "./mirror.js";
import { watchPage } from "./page.js";
import { type RequestParts, send } from "./request.js";
import {
  feedReducer,
  inboxReducer,
  pipelinesReducer,
  runReducer,
  runsReducer,
  statsReducer,
  storeOf,
} from "./stores.js";
import { DEFAULTS, type Times } from "./times.js";
import type {
  ClientOptions,
  Connection,
  ObserveOptions,
  Observer,
  Reducer,
  RouteName,
  Source,
  Store,
  TailraceClient,
} from "./types.js";
import type { WorkerSetup } from "./worker.js";

const VERSION = "0.3.0";
const DEFAULT_MAX_TOPICS = 32;
const DEFAULT_MAX_EVENTS = 10_000;
/** Pipelines that are topics of the common stream; more have a stream of their own. */
const MAX_PIPELINE_TOPICS = 16;
const MAX_PIPELINES = 200;
const MAX_IDLE_STORES = 100;

/** The parts that tests replace. */
export interface Parts {
  readonly host?: Host;
  readonly shared?: Shared | null;
  readonly load?: LeaderLoader;
  readonly startWorker?: ((setup: WorkerSetup) => boolean) | null;
}

/** Holds or shares the streams. */
type Streams = Pick<
  Leader,
  "want" | "restart" | "setVisible" | "hold" | "wake" | "reconnect" | "close"
>;

class Client implements TailraceClient {
  readonly options: ClientOptions;
  readonly connection: Store<Connection>;
  readonly #host: Host;
  readonly #parts: Parts;
  readonly #tokens: Tokens;
  readonly #mirror: Mirror;
  readonly #wishes = new Set<Wish>();
  readonly #stores = new Map<() => Reducer<unknown>, Map<string, Store<unknown>>>();
  readonly #runReducer = () => runReducer(this.options.maxEvents ?? DEFAULT_MAX_EVENTS);
  #streams: Streams | null = null;
  #isStarting = false;
  #isChanged = false;
  #isClosed = false;
  #stopWatching: () => void = () => {};
  #stopLoading: () => void = () => {};
  #isPausedByHand = false;

  constructor(options: ClientOptions, parts: Parts) {
    this.options = options;
    this.#parts = parts;
    this.#host = parts.host ?? browserHost(options.fetch);
    this.#tokens = new Tokens(options);
    this.#mirror = new Mirror(this.#host);
    this.connection = {
      get: () => this.#mirror.connection,
      initial: () => IDLE,
      subscribe: (listener) => this.#mirror.listen(listener),
    };
  }

  // biome-ignore lint/suspicious/noExplicitAny: the interface has the types.
  request(route: RouteName, options: RequestParts = {}): Promise<any> {
    return send(this.#host, this.#tokens, this.options.baseUrl ?? "", route, options);
  }

  observe(source: Source, observer: Observer, options: ObserveOptions = {}) {
    const { visible = true, after = "" } = options;
    const wish: Wish = { source, visible, after };
    this.#wishes.add(wish);
    const isStale = this.#mirror.isStale(source);
    const stop = this.#mirror.watch(wish, observer);
    this.#want();
    if (isStale) this.#streams?.restart(source);
    return () => {
      if (!this.#wishes.delete(wish)) return;
      stop();
      this.#want();
    };
  }

  run(executionId: string) {
    return this.view([`execution:${executionId}`], this.#runReducer);
  }

  runs(workflowId?: string) {
    return this.view([workflowId === undefined ? "runs" : `runs:${workflowId}`], runsReducer);
  }

  tagged(tag: string) {
    return this.view([`tag:${tag}`], runsReducer);
  }

  inbox() {
    return this.view(["paused"], inboxReducer);
  }

  pipelines(ids: readonly string[]) {
    const sorted = [...new Set(ids)].sort();
    const sources: Source[] = [];
    if (sorted.length <= MAX_PIPELINE_TOPICS) sources.push(...sorted.map((id) => `pipeline:${id}`));
    else
      while (sorted.length) {
        const list = sorted.splice(0, MAX_PIPELINES).map(encodeURIComponent).join();
        sources.push(`/ui-api/pipeline/status/stream?pipelineIds=${list}`);
      }
    return this.view(sources, pipelinesReducer);
  }

  feed() {
    return this.view(["feed"], feedReducer);
  }

  stats() {
    return this.view(["stats"], statsReducer);
  }

  position(source: Source) {
    return this.#mirror.position(source);
  }

  disconnect(): void {
    this.#isPausedByHand = true;
    this.#streams?.hold("manual", true);
  }

  reconnect(): void {
    this.#isPausedByHand = false;
    this.#streams?.reconnect();
  }

  close(): void {
    this.#isClosed = true;
    this.#stopWatching();
    this.#stopLoading();
    this.#streams?.close();
    this.#streams = null;
  }

  view<T>(sources: readonly Source[], reducer: () => Reducer<T>): Store<T> {
    const stores = this.#stores.get(reducer) ?? new Map<string, Store<unknown>>();
    this.#stores.set(reducer, stores);
    const key = sources.join();
    const known = stores.get(key);
    if (known !== undefined) return known as Store<T>;
    const store = storeOf((source, observer) => this.observe(source, observer), sources, reducer());
    stores.set(key, store);
    if (stores.size > MAX_IDLE_STORES) stores.delete([...stores.keys()][0] ?? "");
    return store;
  }

  prepare(): void {
    if (this.#streams || this.#isStarting || this.#isClosed) return;
    this.#isStarting = true;
    this.#start()
      .catch(({ message }: Error) => this.#mirror.connect({ state: "error", cause: message }))
      .finally(() => {
        this.#isStarting = false;
      });
  }

  /** Tell what is wanted, once for all that a page subscribes to at a time. */
  #want(): void {
    if (this.#isChanged) return;
    this.#isChanged = true;
    queueMicrotask(() => {
      this.#isChanged = false;
      if (this.#streams) this.#streams.want([...this.#wishes]);
      else if (this.#wishes.size) this.prepare();
    });
  }

  async #start(): Promise<void> {
    // Without a token, the server's 401 tells what is wrong.
    const token = await this.#tokens.get().catch(() => null);
    const streams = await this.#open(token);
    if (this.#isClosed) return streams.close();
    this.#streams = streams;
    if (this.#isPausedByHand) streams.hold("manual", true);
    this.#stopWatching = watchPage(this.#host, streams);
    this.#want();
  }

  async #open(token: string | null): Promise<Streams> {
    const { shared = browserShared(), startWorker = startSharedWorker } = this.#parts;
    const { baseUrl = "", organization = "", sharing = "auto", fetch } = this.options;
    const { maxTopics = DEFAULT_MAX_TOPICS, transport = "fetch", stream } = this.options;
    const times = { ...DEFAULTS, ...stream };
    const options: LeaderOptions = { baseUrl: absolute(baseUrl), maxTopics, times, transport };
    if (sharing === "none" || shared === null) return this.#alone(options);
    const user = `${organization} ${subjectOf(token)}`;
    const name = `tailrace ${VERSION} ${options.baseUrl} ${user} ${JSON.stringify([times, transport])}`;
    const setup = { name, options, token, organization };
    const hasWorker = sharing !== "locks" && !fetch && startWorker?.(setup);
    const role = hasWorker ? "tab-of-worker" : "tab";
    const load = () => this.#load(times);
    return new Group(this.#host, shared, name, role, options, this.#tokens, this.#mirror, load);
  }

  async #alone(options: LeaderOptions): Promise<Streams> {
    const { Leader } = await this.#load(options.times);
    const leader = new Leader(this.#host, options, this.#tokens, this.#mirror, (delivery) =>
      this.#mirror.apply(delivery),
    );
    this.#mirror.connect({ sharing: "none", leads: true });
    return leader;
  }

  /** Load the code that holds streams; after a failure again, for as long as the client is open. */
  async #load({ reconnectDelay, maxReconnectDelay }: Times): ReturnType<LeaderLoader> {
    let cause: string | undefined;
    for (let ms = reconnectDelay; ; ms = Math.min(2 * ms, maxReconnectDelay))
      try {
        const loaded = await (this.#parts.load ?? loadLeader)();
        if (this.#mirror.connection.cause === cause)
          this.#mirror.connect({ state: "disconnected", cause: null });
        return loaded;
      } catch (error) {
        // Another tab may lead, and then its streams are what there is to show.
        if (this.#mirror.connection.state === "disconnected") {
          cause = (error as Error).message;
          this.#mirror.connect({ state: "error", cause });
        }
        await new Promise<void>((resolve) => {
          if (!this.#isClosed)
            this.#stopLoading = this.#host.timer(resolve, ms * (1 + this.#host.random()));
        });
      }
  }
}

const loadLeader: LeaderLoader = () => import("./leader.js");

/** A worker and a page may resolve a relative address differently. */
function absolute(baseUrl: string): string {
  return typeof location === "undefined"
    ? baseUrl
    : new URL(baseUrl, location.origin).href.replace(/\/$/, "");
}

function browserShared(): Shared | null {
  if (typeof BroadcastChannel === "undefined" || typeof document === "undefined") return null;
  const locks = navigator.locks as Locks | undefined;
  // A sandboxed frame has no origin, and its locks refuse all requests.
  if (!locks || origin === "null") return null;
  return { channel: (name) => new BroadcastChannel(name) as Channel, locks };
}

function startSharedWorker(setup: WorkerSetup): boolean {
  try {
    const { name } = setup;
    const worker = new SharedWorker(new URL("./worker.js", import.meta.url), {
      type: "module",
      name,
    });
    worker.port.postMessage(setup);
    return true;
  } catch {
    return false; // the browser has none, or the page's policy forbids it
  }
}

/** Return a client. It opens no stream before something is subscribed. */
export function createClient(options: ClientOptions = {}): TailraceClient {
  return new Client(options, {}) as TailraceClient;
}

/** Return a client of other parts, for tests. */
export function createClientWith(options: ClientOptions, parts: Parts): TailraceClient {
  return new Client(options, parts) as TailraceClient;
}
