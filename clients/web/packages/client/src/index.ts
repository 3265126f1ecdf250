/** Follow Tailrace runs from a browser. */

export { createClient } from "./client.js";
export { Fold, newStep, progressOf } from "./fold.js";
export type * from "./generated.js";
export { RequestError } from "./request.js";
export { feedReducer, inboxReducer, pipelinesReducer } from "./stores.js";
export type * from "./types.js";
