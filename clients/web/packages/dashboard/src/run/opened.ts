/** The run of the page's address, followed while the scripts that render it are loaded. */
import { tailrace } from "../data/live.ts";
import { parse } from "../place.ts";
import { recall } from "./recalled.ts";
import { RunStore } from "./runStore.ts";

/** How long a page waits for the first state of its run, in ms: then it shows that it loads. */
const FIRST_STATE_MS = 500;

let opened: RunStore | null = null;

/**
 * Follow the run of the page's address, if it has one, from what this browser kept of it.
 *
 * Settles when the page may be rendered: one rendering with all parts is sooner complete than one
 * for each part.
 */
export async function openRun(): Promise<void> {
  const { path, query } = parse(location.hash.slice(1));
  const [page, id] = path;
  if (page !== "runs" || !id) return;
  const limit = new Promise((resolve) => setTimeout(resolve, FIRST_STATE_MS));
  opened = new RunStore(id, momentOf(query), await recall(id));
  opened.start();
  // Every page shows the inbox's size: without it, the stream would change its topics at once.
  tailrace.inbox().subscribe(() => undefined);
  await Promise.race([opened.isDrawable, limit]);
}

/** Return the store of a run: the one that the page was opened with, until that is left. */
export function storeOf(id: string, query: URLSearchParams): RunStore {
  if (opened?.id === id && opened.isFollowed) return opened;
  return new RunStore(id, momentOf(query));
}

/** Return the number of events that an address shows; null if it shows the newest state. */
function momentOf(query: URLSearchParams): number | null {
  return Number(query.get("at")) || null;
}
