/** All events of a run, and its state after any number of them. */
import { Fold } from "@tailrace/client";
import { EMPTY_RUN, type RunEvent, type RunState } from "./fold.ts";

/** Events between two kept states: a seek applies fewer than this. */
const CHECKPOINT = 256;

type Applied = Parameters<Fold["apply"]>[0];

export class History {
  readonly events: RunEvent[] = [];
  readonly #checkpoints: RunState[] = [EMPTY_RUN];
  #fold = new Fold();

  get latest(): RunState {
    return this.#fold.state;
  }

  add(event: RunEvent): void {
    this.events.push(event);
    this.#fold.apply(event as unknown as Applied);
    if (this.events.length % CHECKPOINT === 0) this.#checkpoints.push(this.#fold.state);
  }

  /** Return the state after the first `count` events. */
  at(count: number): RunState {
    if (count >= this.events.length) return this.latest;
    const nearest = Math.floor(Math.max(count, 0) / CHECKPOINT);
    const fold = new Fold(this.#checkpoints[nearest]);
    for (const event of this.events.slice(nearest * CHECKPOINT, count)) {
      fold.apply(event as unknown as Applied);
    }
    return fold.state;
  }

  /** Forget all but the first `count` events. */
  cut(count: number): void {
    this.#fold = new Fold(this.at(count));
    this.events.length = Math.min(count, this.events.length);
    this.#checkpoints.length = Math.floor(this.events.length / CHECKPOINT) + 1;
  }

  clear(): void {
    this.events.length = 0;
    this.#checkpoints.length = 1;
    this.#fold = new Fold();
  }
}
