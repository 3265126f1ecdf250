import { useEffect, useState } from "react";
import type { LayoutAnswer, LayoutRequest } from "./layout.worker.ts";
import type { Drawing } from "./shape.ts";

export type Places = ReadonlyMap<string, { x: number; y: number }>;

let worker: Worker | undefined;
let requests = 0;
const kept = new Map<string, Places>();

function place({ shapes, edges, key }: Drawing): Promise<Places> {
  worker ??= new Worker(new URL("./layout.worker.ts", import.meta.url), { type: "module" });
  const target = worker;
  const id = ++requests;
  return new Promise((resolve) => {
    const take = ({ data }: MessageEvent<LayoutAnswer>) => {
      if (data.id !== id) return;
      target.removeEventListener("message", take);
      const places = new Map(data.places.map(([shape, x, y]) => [shape, { x, y }]));
      if (kept.size > 50) kept.clear();
      kept.set(key, places);
      resolve(places);
    };
    target.addEventListener("message", take);
    const sizes = shapes.map((shape) => ({
      id: shape.id,
      width: shape.width,
      height: shape.height,
    }));
    target.postMessage({ id, shapes: sizes, edges } satisfies LayoutRequest);
  });
}

/** Return where the shapes of a drawing are; the former places until the new ones are known. */
export function useLayout(drawing: Drawing): Places | null {
  const [places, setPlaces] = useState<Places | null>(() => kept.get(drawing.key) ?? null);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key says whether places change
  useEffect(() => {
    let isWanted = true;
    const known = kept.get(drawing.key);
    if (known) setPlaces(known);
    else if (drawing.shapes.length)
      void place(drawing).then((found) => isWanted && setPlaces(found));
    return () => {
      isWanted = false;
    };
  }, [drawing.key]);
  return places;
}
