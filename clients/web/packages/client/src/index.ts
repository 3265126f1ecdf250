/** Follow Tailrace runs from a browser. */

import type { Event } from "./generated.js";
import type { ClientOptions, ExecutionState, TailraceClient } from "./types.js";

export type * from "./generated.js";
export type * from "./types.js";

/** Return a client. It opens no stream before something is subscribed. */
export declare function createClient(options?: ClientOptions): TailraceClient;

/** Folds events into the state of their execution, as the server does. */
export declare class Fold {
  /** Continue from a state, for example a checkpoint. */
  constructor(state?: ExecutionState);
  /** The state after the events so far; the same object until the next event. */
  readonly state: ExecutionState;
  /** Apply one event. Throws if the state machine does not allow it. */
  apply(event: Event): void;
}
