/** A run as one page that needs no server. Pure. */
import type { GraphDocument } from "../data/types.ts";
import type { RunEvent } from "../run/fold.ts";

/** What a saved run contains. */
export interface SavedRun {
  events: readonly RunEvent[];
  graph: GraphDocument;
  /** Where the shapes of its graph are. */
  places: [id: string, x: number, y: number][];
  savedAt: string;
  /** Whether large values were left out. */
  isShortened: boolean;
}

interface Parts {
  /** The script that plays it, and its styles. */
  script: string;
  style: string;
  nonce: string;
}

/** Files up to this size open quickly and can be sent. */
export const MAX_BYTES = 20_000_000;
/** In a file that would be larger, values beyond this size are left out. */
const KEPT_CHARS = 1_000;
const VALUES = new Set(["input", "output", "data", "items", "fields"]);

/** Return the page, or null if even without its large values the run is too large for one. */
export function pageOf(run: SavedRun, parts: Parts): string | null {
  const whole = asHtml(run, parts);
  if (whole.length <= MAX_BYTES) return whole;
  const events = run.events.map((event) => ({ ...event, data: shortened(event.data) }));
  const short = asHtml({ ...run, events, isShortened: true }, parts);
  return short.length <= MAX_BYTES ? short : null;
}

function shortened(data: RunEvent["data"]): RunEvent["data"] {
  return Object.fromEntries(
    Object.entries(data).map(([name, value]) => {
      // A list of items is counted when the run is replayed.
      if (name === "items" && Array.isArray(value)) return [name, value.map(() => null)];
      const isLarge = VALUES.has(name) && JSON.stringify(value).length > KEPT_CHARS;
      return [name, isLarge ? "left out of this file" : value];
    }),
  );
}

function asHtml(run: SavedRun, { script, style, nonce }: Parts): string {
  const { workflow_name, execution_id } = run.events[0]?.data ?? {};
  const title = `${workflow_name ?? "Run"} ${execution_id ?? ""}`;
  // The page may do nothing but run this script: whatever a run contains stays text.
  const policy = `default-src 'none'; script-src 'nonce-${nonce}'; style-src 'nonce-${nonce}'`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escaped(title)} · Tailrace</title>
<style nonce="${nonce}">${style}</style>
</head>
<body>
<div id="root"></div>
<script type="application/json" id="run">${asData(run)}</script>
<script type="module" nonce="${nonce}">${script.replaceAll("</script", "<\\/script")}</script>
</body>
</html>
`;
}

const ENTITIES: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };

const escaped = (text: string): string => text.replace(/[&<>"]/g, (each) => ENTITIES[each] ?? "");

/** JSON that cannot end the element that it stands in. */
const asData = (value: unknown): string => JSON.stringify(value).replaceAll("<", "\\u003c");
