/** One stream for all that this tab follows. */
import { BASE, sessionHeaders } from "./session.ts";

export interface Block {
  topic: string;
  event: string;
  data: unknown;
  id: string;
}

export type LiveState = "connecting" | "connected" | "reconnecting" | "unauthorized" | "offline";

export interface LogLine {
  at: number;
  id: string;
  topic: string;
  event: string;
  bytes: number;
  delayMs: number | null;
  text: string;
}

/** What a subscriber of a topic is told. */
export interface Observer {
  blocks(blocks: readonly { event: string; data: unknown; id: string }[]): void;
  /** Everything received so far is void: the snapshot follows. */
  reset(reason: string): void;
}

const HEARTBEAT_TIMEOUT_MS = 45_000;
const FIRST_DELAY_MS = 500;
const MAX_DELAY_MS = 15_000;
/** Outages shorter than this show no banner. */
export const CALM_MS = 1_500;
const KEPT_LINES = 500;

class Live {
  readonly #topics = new Map<string, Set<Observer>>();
  readonly #watchers = new Set<() => void>();
  #open: AbortController | null = null;
  #opened: string[] = [];
  #lastId = "";
  #timer: ReturnType<typeof setTimeout> | undefined;
  #silence: ReturnType<typeof setTimeout> | undefined;
  #attempt = 0;
  state: LiveState = "connecting";
  since = Date.now();
  connections = 0;
  blocks = 0;
  bytes = 0;
  resets = 0;
  isCut = false;
  lines: LogLine[] = [];

  constructor() {
    addEventListener("online", () => this.#again(0));
    addEventListener("offline", () => this.#set("offline"));
    addEventListener("pageshow", (event) => event.persisted && this.#again(0));
  }

  observe(topic: string, listener: Observer): () => void {
    const listeners = this.#topics.get(topic) ?? new Set();
    this.#topics.set(topic, listeners);
    listeners.add(listener);
    // A second reader of an open topic needs its snapshot as well, so the topic begins anew.
    if (listeners.size > 1) this.#opened = this.#opened.filter((name) => name !== topic);
    this.#again(0);
    return () => {
      listeners.delete(listener);
      if (!listeners.size) {
        this.#topics.delete(topic);
        this.#again(50);
      }
    };
  }

  watch = (changed: () => void): (() => void) => {
    this.#watchers.add(changed);
    return () => this.#watchers.delete(changed);
  };

  get lastId(): string {
    return this.#lastId;
  }

  get topics(): string[] {
    return [...this.#topics.keys()].sort();
  }

  /** Close the socket and keep it closed until `mend`. */
  cut(): void {
    this.isCut = true;
    this.#open?.abort();
    this.#set("reconnecting");
  }

  mend(): void {
    this.isCut = false;
    this.#again(0);
  }

  restart(): void {
    this.#lastId = "";
    this.#opened = [];
    this.#again(0);
  }

  #set(state: LiveState): void {
    if (state !== this.state) this.since = Date.now();
    this.state = state;
    this.#notify();
  }

  #notify(): void {
    for (const changed of this.#watchers) changed();
  }

  #again(delay: number): void {
    if (this.isCut) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#connect(), delay);
  }

  async #connect(): Promise<void> {
    const topics = this.topics;
    this.#open?.abort();
    clearTimeout(this.#silence);
    if (!topics.length) return this.#set("connected");
    const open = new AbortController();
    this.#open = open;
    if (this.state === "connected") this.since = Date.now();
    let delay = 0;
    try {
      delay = await this.#read(topics, open);
    } catch {
      if (this.#open !== open) return;
      delay = Math.random() * Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** this.#attempt) + 50;
    }
    if (this.#open !== open || this.state === "unauthorized") return;
    this.#attempt += 1;
    this.#set(navigator.onLine ? "reconnecting" : "offline");
    this.#again(delay);
  }

  async #read(topics: string[], open: AbortController): Promise<number> {
    const query = new URLSearchParams({ topics: topics.join(",") });
    const kept = this.#opened.filter((topic) => this.#topics.has(topic));
    const same = kept.length === topics.length && kept.length === this.#opened.length;
    const headers: Record<string, string> = { accept: "text/event-stream", ...sessionHeaders() };
    if (this.#lastId && same) headers["last-event-id"] = this.#lastId;
    else if (this.#lastId && kept.length && !this.#lastId.includes("~")) {
      query.set("since", this.#lastId);
      query.set("since_topics", this.#opened.join(","));
    } else this.#lastId = "";
    const answer = await fetch(`${BASE}api/v1/sse/stream?${query}`, {
      headers,
      signal: open.signal,
    });
    if (answer.status === 401 || answer.status === 403) {
      this.#set("unauthorized");
      return 0;
    }
    if (!answer.ok || !answer.body) throw new Error(String(answer.status));
    this.connections += 1;
    const continued = headers["last-event-id"] || query.has("since") ? kept : [];
    for (const topic of topics) if (!continued.includes(topic)) this.#reset(topic, "opened");
    this.#opened = topics;
    this.#set("connected");
    let delay = FIRST_DELAY_MS;
    const parser = new Parser((event, data, id) => {
      this.#attempt = 0;
      if (id) this.#lastId = id;
      if (data) this.#deliver(event, data, id);
    });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      clearTimeout(this.#silence);
      this.#silence = setTimeout(() => open.abort(), HEARTBEAT_TIMEOUT_MS);
      const { done, value } = await reader.read();
      if (done || this.#open !== open) return delay * (0.5 + Math.random());
      this.bytes += value.length;
      parser.feed(value);
      delay = parser.retryMs ?? delay;
    }
  }

  #deliver(name: string, data: string, id: string): void {
    const block = { ...(JSON.parse(data) as Block), id };
    this.blocks += 1;
    if (name === "stream:reset") {
      this.resets += 1;
      for (const topic of this.#topics.keys()) this.#reset(topic, "expired");
    } else this.#pass(block);
    this.#note(name, data, block);
  }

  #pass(block: Block): void {
    for (const observer of [...(this.#topics.get(block.topic) ?? [])]) observer.blocks([block]);
  }

  #reset(topic: string, reason: string): void {
    for (const observer of [...(this.#topics.get(topic) ?? [])]) observer.reset(reason);
  }

  #note(name: string, data: string, block: Block): void {
    const stamp = (block.data as { timestamp?: string | number } | null)?.timestamp;
    const sent = typeof stamp === "string" ? Date.parse(stamp) : (stamp ?? Number.NaN);
    this.lines.push({
      at: Date.now(),
      id: block.id,
      topic: block.topic ?? "",
      event: block.event ?? name,
      bytes: data.length,
      delayMs: Number.isFinite(sent) ? Date.now() - sent : null,
      text: data.slice(0, 2000),
    });
    if (this.lines.length > KEPT_LINES) this.lines = this.lines.slice(-KEPT_LINES / 2);
    this.#notify();
  }
}

/** Turn text into blocks; see https://html.spec.whatwg.org/#event-stream-interpretation. */
export class Parser {
  readonly #emit: (event: string, data: string, id: string) => void;
  #rest = "";
  #data: string[] = [];
  #event = "";
  #id = "";
  retryMs: number | null = null;

  constructor(emit: (event: string, data: string, id: string) => void) {
    this.#emit = emit;
  }

  feed(chunk: string): void {
    const lines = (this.#rest + chunk).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) this.#line(line.replace(/\r$/, ""));
  }

  #line(line: string): void {
    if (!line) {
      if (this.#data.length || this.#id) this.#emit(this.#event, this.#data.join("\n"), this.#id);
      this.#data = [];
      this.#event = "";
      this.#id = "";
      return;
    }
    const [, field, value = ""] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#event = value;
    else if (field === "id") this.#id = value;
    else if (field === "retry") this.retryMs = Number(value);
  }
}

export const live = new Live();
