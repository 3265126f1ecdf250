/** One connection: runs the effects of its link with `fetch`, timers and tokens. */

import type { Host } from "./host.js";
import { type Input, type Link, NEW_LINK, step, type TimerName } from "./link.js";
import { Parser } from "./parser.js";
import type { Times } from "./times.js";

/** A block as it came: `data` is its text. */
export interface RawBlock {
  readonly event: string;
  readonly data: string;
  readonly id: string;
}

/** Tokens, from wherever they come. */
export interface Credentials {
  /** Return headers for a request. */
  headers(): Promise<Record<string, string>>;
  /** Get a new token after a 401; return whether there is one. */
  refresh(): Promise<boolean>;
}

/** What a stream asks of its owner, and tells it. */
export interface StreamOwner {
  /** The address to open, and the id to resume after; empty for none. */
  target(): { readonly url: string; readonly lastEventId: string };
  /** The blocks of one chunk, and the cursor after it; null if it did not move. */
  received(blocks: readonly RawBlock[], cursor: string | null): void;
  changed(): void;
  poll(on: boolean): void;
  over(reason: string | null): void;
}

interface Refused {
  readonly reason?: string;
  readonly retry_ms?: number | null;
  readonly detail?: string;
}

export class Stream {
  link: Link = NEW_LINK;
  readonly #host: Host;
  readonly #fetch: Host["fetch"];
  readonly #times: Times;
  readonly #credentials: Credentials;
  readonly #owner: StreamOwner;
  readonly #timers = new Map<TimerName, () => void>();
  #abort: AbortController | null = null;

  /** @param fetch opens the streams. */
  constructor(
    host: Host,
    fetch: Host["fetch"],
    times: Times,
    credentials: Credentials,
    owner: StreamOwner,
  ) {
    this.#host = host;
    this.#fetch = fetch;
    this.#times = times;
    this.#credentials = credentials;
    this.#owner = owner;
  }

  input(input: Input): void {
    const before = this.link;
    const moment = { now: this.#host.now(), random: this.#host.random() };
    const [link, effects] = step(before, input, this.#times, moment);
    this.link = link;
    for (const effect of effects) {
      if (effect.type === "timer") this.#timer(effect.name, effect.ms);
      else if (effect.type === "poll") this.#owner.poll(effect.on);
      else if (effect.type === "over") this.#owner.over(effect.reason);
      else if (effect.type === "open") void this.#open();
      else if (effect.type === "refresh") void this.#refresh();
      else this.#close();
    }
    if (input.type !== "byte") this.#owner.changed();
  }

  #timer(name: TimerName, ms: number | null): void {
    this.#timers.get(name)?.();
    this.#timers.delete(name);
    if (ms === null) return;
    const cancel = this.#host.timer(() => {
      this.#timers.delete(name);
      this.input({ type: "timer", name });
    }, ms);
    this.#timers.set(name, cancel);
  }

  #close(): void {
    this.#abort?.abort();
    this.#abort = null;
  }

  async #refresh(): Promise<void> {
    const ok = await this.#credentials.refresh().catch(() => false);
    this.input({ type: "token", ok });
  }

  async #open(): Promise<void> {
    const abort = new AbortController();
    this.#abort = abort;
    // A connection that was given up reports nothing.
    const input = (input: Input) => {
      if (this.#abort === abort) this.input(input);
    };
    try {
      const { url, lastEventId } = this.#owner.target();
      const headers: Record<string, string> = {
        ...(await this.#credentials.headers()),
        Accept: "text/event-stream",
      };
      if (lastEventId) headers["Last-Event-ID"] = lastEventId;
      if (abort.signal.aborted) return;
      const response = await this.#fetch(url, {
        headers,
        signal: abort.signal,
        cache: "no-store",
        credentials: "same-origin",
      });
      const retryAfter = Number(response.headers.get("Retry-After")) * 1000;
      const isStream = response.headers.get("Content-Type")?.startsWith("text/event-stream");
      if (response.status === 200 && !isStream) {
        input({ type: "closed", cause: "the answer is no event stream" });
        return;
      }
      input({ type: "answered", status: response.status, retryAfter: retryAfter || null });
      if (response.status !== 200 || !response.body) {
        // The refusal may have aborted the request, and its body with it.
        await response.body?.cancel();
        return;
      }
      await this.#read(response.body, abort, input);
      input({ type: "closed", cause: null });
    } catch (error) {
      input({ type: "closed", cause: error instanceof Error ? error.message : String(error) });
    }
  }

  async #read(
    body: ReadableStream<Uint8Array>,
    abort: AbortController,
    input: (input: Input) => void,
  ): Promise<void> {
    let blocks: RawBlock[] = [];
    let cursor: string | null = null;
    let isContent = false;
    let control: Input[] = [];
    const parser = new Parser({
      block(event, data, id) {
        if (event === "stream:refused") {
          const refused = JSON.parse(data) as Refused;
          const reason = [refused.reason, refused.detail].filter(Boolean).join(": ");
          control.push({ type: "refused", reason, retryMs: refused.retry_ms ?? null });
          return;
        }
        isContent = true;
        if (event === "stream:auth-expired") control.push({ type: "expired" });
        else blocks.push({ event, data, id });
      },
      cursor(id) {
        cursor = id;
      },
      comment() {
        isContent = true;
      },
      retry(ms) {
        control.push({ type: "retry", ms });
      },
    });
    const reader = body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || this.#abort !== abort) return;
      input({ type: "byte" });
      parser.push(value);
      if (isContent) input({ type: "content" });
      const received = blocks;
      const moved: string | null = cursor;
      const told = control;
      blocks = [];
      cursor = null;
      control = [];
      isContent = false;
      if (received.length || moved !== null) this.#owner.received(received, moved);
      for (const each of told) input(each);
    }
  }
}
