/** Save a run as one file. */
import type { GraphDocument } from "../data/types.ts";
import type { RunEvent } from "../run/fold.ts";
import { History } from "../run/history.ts";
import { placed } from "../run/places.ts";
import { drawingOf } from "../run/shape.ts";
import tokens from "../styles/tokens.css?inline";
import { MAX_BYTES, pageOf } from "./page.ts";
import look from "./player.css?inline";
import player from "./player.ts?worker&url";

export async function save(events: readonly RunEvent[], graph: GraphDocument): Promise<void> {
  const kept = [...events];
  const history = new History();
  for (const event of kept) history.add(event);
  const { latest } = history;
  const places = await placed(drawingOf(graph, latest.steps, new Set()));
  const answer = await fetch(player);
  if (!answer.ok) throw new Error("The player could not be read: reload the page and try again.");
  const nonce = [...crypto.getRandomValues(new Uint8Array(16))]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");
  const html = pageOf(
    {
      events: kept,
      graph,
      places: [...places].map(([id, { x, y }]) => [id, x, y]),
      savedAt: new Date().toISOString(),
      isShortened: false,
    },
    { script: await answer.text(), style: tokens + look, nonce },
  );
  if (html === null) {
    throw new Error(`This run is larger than ${MAX_BYTES / 1e6} MB even without its values.`);
  }
  download(`${latest.workflow_id}-${latest.execution_id}.html`, html);
}

function download(name: string, html: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([html], { type: "text/html" }));
  link.download = name;
  link.click();
  // Not at once: the browser reads it after the click.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
