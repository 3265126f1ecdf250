/** Where the shapes of drawings are, computed beside the page's thread. */
import type { LayoutAnswer, LayoutRequest } from "./layout.worker.ts";
import type { Drawing } from "./shape.ts";

export type Places = ReadonlyMap<string, { x: number; y: number }>;

const MAX_KEPT = 50;

// Started with the page, beside what it asks the API.
const worker = new Worker(new URL("./layout.worker.ts", import.meta.url), { type: "module" });
let requests = 0;
const kept = new Map<string, Places>();
const asked = new Map<string, Promise<Places>>();

/** Return the places of a drawing if they were computed; else null. */
export function knownPlaces({ key }: Drawing): Places | null {
  return kept.get(key) ?? null;
}

/** Return the places of a drawing; drawings of one key are computed once. */
export async function placed(drawing: Drawing): Promise<Places> {
  const { key } = drawing;
  const known = kept.get(key);
  if (known) return known;
  const pending = asked.get(key) ?? computed(drawing);
  asked.set(key, pending);
  const places = await pending;
  if (kept.size > MAX_KEPT) kept.clear();
  kept.set(key, places);
  asked.delete(key);
  return places;
}

function computed({ shapes, edges }: Drawing): Promise<Places> {
  const id = ++requests;
  return new Promise((resolve) => {
    const take = ({ data }: MessageEvent<LayoutAnswer>) => {
      if (data.id !== id) return;
      worker.removeEventListener("message", take);
      resolve(new Map(data.places.map(([shape, x, y]) => [shape, { x, y }])));
    };
    worker.addEventListener("message", take);
    const sizes = shapes.map(({ id, width, height }) => ({ id, width, height }));
    worker.postMessage({ id, shapes: sizes, edges } satisfies LayoutRequest);
  });
}
