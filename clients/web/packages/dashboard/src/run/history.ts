/** All events of a run, and its state after any number of them. */
import { apply, copyRun, emptyRun, type RunEvent, type RunState } from "./fold.ts";

/** Events between two kept states: a seek applies fewer than this. */
const CHECKPOINT = 256;

export class History {
  readonly events: RunEvent[] = [];
  readonly #checkpoints: RunState[] = [emptyRun()];
  #latest = emptyRun();

  get latest(): RunState {
    return this.#latest;
  }

  add(event: RunEvent): void {
    this.events.push(event);
    apply(this.#latest, event);
    if (this.events.length % CHECKPOINT === 0) this.#checkpoints.push(copyRun(this.#latest));
  }

  /** Hand out the latest state as a new object, for readers that compare by identity. */
  publish(): RunState {
    this.#latest = { ...this.#latest };
    return this.#latest;
  }

  /** Return the state after the first `count` events. */
  at(count: number): RunState {
    if (count >= this.events.length) return this.#latest;
    const nearest = Math.floor(Math.max(count, 0) / CHECKPOINT);
    const run = copyRun(this.#checkpoints[nearest] ?? emptyRun());
    for (const event of this.events.slice(nearest * CHECKPOINT, count)) apply(run, event);
    return run;
  }

  clear(): void {
    this.events.length = 0;
    this.#checkpoints.length = 1;
    this.#latest = emptyRun();
  }
}
