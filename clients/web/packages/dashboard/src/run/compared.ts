/** Compare what a page has received with the log. Pure. */
import type { RunEvent } from "./fold.ts";

export interface Comparison {
  /** Events that both sides had. */
  events: number;
  missing: number;
  doubled: number;
  /** Events that both sides have, at other places among these. */
  displaced: number;
}

const keyOf = ({ type, timestamp, data }: RunEvent): string =>
  JSON.stringify([type, timestamp, data]);

/** Compare as many events as both have: either side may be read a moment earlier. */
export function compared(received: readonly RunEvent[], log: readonly RunEvent[]): Comparison {
  const events = Math.min(received.length, log.length);
  const ours = received.slice(0, events).map(keyOf);
  const theirs = log.slice(0, events).map(keyOf);
  const [kept, arrived] = [common(theirs, ours), common(ours, theirs)];
  return {
    events,
    missing: events - kept.length,
    doubled: events - arrived.length,
    displaced: kept.filter((key, at) => key !== arrived[at]).length,
  };
}

/** Return what of one list is in the other as well, as often as it is there, in its order. */
function common(one: readonly string[], other: readonly string[]): string[] {
  const left = new Map<string, number>();
  for (const key of other) left.set(key, (left.get(key) ?? 0) + 1);
  return one.filter((key) => {
    const count = left.get(key) ?? 0;
    if (count) left.set(key, count - 1);
    return count > 0;
  });
}
