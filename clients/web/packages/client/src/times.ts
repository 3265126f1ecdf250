/** The times of a connection, with their defaults. */

import type { StreamOptions } from "./types.js";

export type Times = Required<StreamOptions>;

export const DEFAULTS: Times = {
  reconnectDelay: 1_000,
  maxReconnectDelay: 30_000,
  maxReconnectAttempts: 5,
  heartbeatTimeout: 45_000,
  enablePollingFallback: true,
  pollingInterval: 5_000,
  probeInterval: 60_000,
  reconnectingAfter: 1_500,
  pauseWhenHidden: true,
};
