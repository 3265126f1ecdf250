import { tailrace } from "../data/live.ts";
import { Store } from "../data/store.ts";
import { EMPTY_RUN, type RunEvent, type RunState } from "./fold.ts";
import { History } from "./history.ts";

export interface RunView {
  /** The state that is shown: the newest, or that of an earlier moment. */
  run: RunState;
  /** The number of events that it is the fold of. */
  at: number;
  total: number;
  isLive: boolean;
  phase: "loading" | "ready" | "missing";
}

/** From this number of steps on, the page shows a few states a second, not one in each frame. */
const LARGE = 500;

/** Follows one run, and shows any moment of it while it goes on. */
export class RunStore {
  readonly id: string;
  readonly view: Store<RunView>;
  readonly history = new History();
  #moment: number | null = null;
  #phase: RunView["phase"] = "loading";

  constructor(id: string, moment: number | null = null) {
    this.id = id;
    this.#moment = moment;
    const empty: RunView = {
      run: EMPTY_RUN,
      at: 0,
      total: 0,
      isLive: moment === null,
      phase: "loading",
    };
    this.view = new Store(empty, ({ run, isLive }) => (isLive && run.steps.size > LARGE ? 150 : 0));
  }

  start(): () => void {
    return tailrace.observe(`execution:${this.id}`, {
      reset: () => {
        this.history.clear();
        this.#phase = "loading";
        this.#publish();
      },
      blocks: (blocks) => {
        for (const { event, data } of blocks) {
          if (event === "error") this.#phase = "missing";
          else if (event !== "connected") {
            this.#phase = "ready";
            this.history.add(data as unknown as RunEvent);
          }
        }
        this.#publish();
      },
      ended: (reason) => {
        if (reason !== null && this.#phase === "loading") this.#phase = "missing";
        this.#publish();
      },
    });
  }

  /** Show the state after `count` events; null follows the newest. */
  seek(count: number | null): void {
    const total = this.history.events.length;
    this.#moment = count === null || count >= total ? null : Math.max(1, count);
    this.#publish();
  }

  step(by: number): void {
    this.seek((this.#moment ?? this.history.events.length) + by);
  }

  #publish(): void {
    const total = this.history.events.length;
    const newest = this.history.latest;
    const moment = this.#moment === null || this.#moment >= total ? null : this.#moment;
    this.view.set({
      run: moment === null ? newest : this.history.at(moment),
      at: moment ?? total,
      total,
      isLive: this.#moment === null || moment === null,
      phase: this.#phase,
    });
  }
}
