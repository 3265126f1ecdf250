/** What this page follows, over the streams that all tabs of the browser share. */
import {
  type Block,
  type Connection,
  createClient,
  type ObserveOptions,
  type Observer,
  type Source,
  type TailraceClient,
} from "@tailrace/client";
import { BASE, session } from "./session.ts";

/** A block as the stream inspector shows it. */
export interface Line {
  key: number;
  source: Source;
  block: Block;
}

const KEPT_LINES = 1_000;
/** Resets by the server; others only say that a source begins. */
const RESETS = new Set(["expired", "unknown", "recreated", "restored"]);

/** The client of all hooks. Its lists observe through it, so the recorder sees their blocks as well. */
export const tailrace = createClient({
  baseUrl: BASE.replace(/\/$/, ""),
  token: () => session().token || null,
  organization: session().organization,
});

class Recorder {
  readonly #watchers = new Set<() => void>();
  readonly #sources = new Map<Source, number>();
  lines: readonly Line[] = [];
  total = 0;
  resets = 0;
  isCut = false;

  constructor() {
    const observe = tailrace.observe.bind(tailrace);
    tailrace.observe = (source, observer, options) =>
      this.#observe(observe, source, observer, options);
  }

  #observe(
    observe: TailraceClient["observe"],
    source: Source,
    observer: Observer,
    options?: ObserveOptions,
  ): () => void {
    this.#sources.set(source, (this.#sources.get(source) ?? 0) + 1);
    const stop = observe(
      source,
      {
        blocks: (blocks) => {
          observer.blocks(blocks);
          this.#record(source, blocks);
        },
        reset: (reason) => {
          if (RESETS.has(reason)) this.resets += 1;
          observer.reset(reason);
        },
        ended: (reason) => observer.ended(reason),
      },
      options,
    );
    return () => {
      stop();
      const left = (this.#sources.get(source) ?? 1) - 1;
      if (left) this.#sources.set(source, left);
      else this.#sources.delete(source);
    };
  }

  watch = (changed: () => void): (() => void) => {
    this.#watchers.add(changed);
    return () => this.#watchers.delete(changed);
  };

  get sources(): Source[] {
    return [...this.#sources.keys()].sort();
  }

  /** Close the streams until `mend`. */
  cut(): void {
    this.isCut = true;
    tailrace.disconnect();
    this.#notify();
  }

  mend(): void {
    this.isCut = false;
    tailrace.reconnect();
    this.#notify();
  }

  #record(source: Source, blocks: readonly Block[]): void {
    const made = blocks.map((block) => ({ key: ++this.total, source, block }));
    this.lines = [...this.lines, ...made].slice(-KEPT_LINES);
    this.#notify();
  }

  #notify(): void {
    for (const changed of this.#watchers) changed();
  }
}

export const live = new Recorder();

export type { Connection };
