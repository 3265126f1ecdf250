/** Compare what a page has received with the log. Pure. */
import type { RunEvent } from "./fold.ts";

export interface Comparison {
  /** Events that both sides had. */
  events: number;
  missing: number;
  doubled: number;
}

const keyOf = ({ type, timestamp, data }: RunEvent): string =>
  JSON.stringify([type, timestamp, data]);

/** Compare as many events as both have: either side may be read a moment earlier. */
export function compared(received: readonly RunEvent[], log: readonly RunEvent[]): Comparison {
  const events = Math.min(received.length, log.length);
  const left = new Map<string, number>();
  for (const event of received.slice(0, events)) {
    left.set(keyOf(event), (left.get(keyOf(event)) ?? 0) + 1);
  }
  let missing = 0;
  for (const event of log.slice(0, events)) {
    const count = left.get(keyOf(event)) ?? 0;
    if (count) left.set(keyOf(event), count - 1);
    else missing += 1;
  }
  const doubled = [...left.values()].reduce((sum, count) => sum + count, 0);
  return { events, missing, doubled };
}
