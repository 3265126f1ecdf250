import type { Observer } from "@tailrace/client";
import type { Keeper, Kept } from "../data/kept.ts";
import { tailrace } from "../data/live.ts";
import { Store } from "../data/store.ts";
import { EMPTY_RUN, type RunEvent, type RunState } from "./fold.ts";
import { prepareGraph } from "./graph.ts";
import { History } from "./history.ts";
import { keeperOf } from "./recalled.ts";

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
  #setDrawable: () => void = () => {};
  /** Settled when the graph and the places of its steps are known, or cannot be. */
  readonly isDrawable = new Promise<void>((resolve) => {
    this.#setDrawable = resolve;
  });
  #moment: number | null = null;
  #phase: RunView["phase"] = "loading";
  readonly #keeper: Keeper;
  #stop: (() => void) | null = null;
  #hasAsked = false;
  /** What a reload began with: a position, and the number of events before it. */
  #base: { cursor: string; count: number } | null = null;

  constructor(id: string, moment: number | null = null, kept: Kept | null = null) {
    this.id = id;
    this.#moment = moment;
    const empty: RunView = {
      run: EMPTY_RUN,
      at: 0,
      total: 0,
      isLive: moment === null,
      phase: "loading",
    };
    this.#keeper = keeperOf(id, kept);
    if (kept) {
      for (const event of kept.events) this.history.add(event);
      this.#base = { cursor: kept.cursor, count: kept.events.length };
      this.#phase = "ready";
    }
    const rest = ({ run, isLive }: RunView) => (isLive && run.steps.size > LARGE ? 150 : 0);
    this.view = new Store(kept ? this.#newest() : empty, rest);
  }

  /** Follow the run, unless that goes on; return how to stop. */
  start(): () => void {
    this.#stop ??= this.#follow();
    this.#prepare();
    return this.#stop;
  }

  get isFollowed(): boolean {
    return this.#stop !== null;
  }

  #follow(): () => void {
    const source = `execution:${this.id}`;
    const note = () => {
      const cursor = tailrace.position(source);
      if (cursor && this.history.events.length) this.#keeper.note(this.history.events, cursor);
    };
    const leave = (event?: Event) => {
      note();
      this.#keeper.flush(event !== undefined);
    };
    const stops = [this.#observe(source), tailrace.connection.subscribe(note)];
    addEventListener("pagehide", leave);
    return () => {
      this.#stop = null;
      leave();
      removeEventListener("pagehide", leave);
      for (const stop of stops) stop();
    };
  }

  #observe(source: string): () => void {
    const observer: Observer = {
      reset: (reason) => {
        if (reason === "resumed" && this.#base) this.history.cut(this.#base.count);
        else {
          if (this.history.events.length) this.#keeper.drop();
          this.#base = null;
          this.history.clear();
          this.#phase = "loading";
        }
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
    };
    return tailrace.observe(source, observer, this.#base ? { after: this.#base.cursor } : {});
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
    this.#prepare();
    this.view.set(this.#newest());
  }

  /** Prepare the graph before the page is rendered: its places take longer than the rest. */
  #prepare(): void {
    const { latest } = this.history;
    if (this.#phase === "missing") this.#setDrawable();
    if (!latest.workflow_id || this.#hasAsked) return;
    this.#hasAsked = true;
    // The page shows what could not be read.
    prepareGraph(latest)
      .catch(() => {})
      .then(this.#setDrawable);
  }

  #newest(): RunView {
    const total = this.history.events.length;
    const newest = this.history.latest;
    const moment = this.#moment === null || this.#moment >= total ? null : this.#moment;
    return {
      run: moment === null ? newest : this.history.at(moment),
      at: moment ?? total,
      total,
      isLive: this.#moment === null || moment === null,
      phase: this.#phase,
    };
  }
}
