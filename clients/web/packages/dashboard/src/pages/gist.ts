import type { PausedEntry } from "../data/types.ts";

const MAX_CHARS = 40;

/** What tells a waiting run from others: the short values of its input, or its workflow. */
export function gistOf(entry: PausedEntry): string {
  const values = Object.values(entry.variables ?? {})
    .filter((value) => ["string", "number"].includes(typeof value))
    .map(String)
    .filter((value) => value && value.length <= MAX_CHARS);
  return values.slice(0, 3).join(" · ") || entry.workflowName;
}
