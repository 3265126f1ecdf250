/** What this page follows, over the streams that all tabs of the browser share. */
import {
  type Block,
  type Connection,
  createClient,
  type Observer,
  type Source,
} from "@tailrace/client";
import { BASE, session } from "./session.ts";

/** A block as the stream inspector shows it. */
export interface Line {
  key: number;
  source: Source;
  block: Block;
}

const KEPT_LINES = 1_000;

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

  /** Follow a source, and record what comes. */
  observe(source: Source, observer: Partial<Observer>): () => void {
    this.#sources.set(source, (this.#sources.get(source) ?? 0) + 1);
    const stop = tailrace.observe(source, {
      blocks: (blocks) => {
        observer.blocks?.(blocks);
        this.#record(source, blocks);
      },
      reset: (reason) => {
        if (["expired", "unknown", "recreated", "restored"].includes(reason)) this.resets += 1;
        observer.reset?.(reason);
      },
      ended: (reason) => observer.ended?.(reason),
    });
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
