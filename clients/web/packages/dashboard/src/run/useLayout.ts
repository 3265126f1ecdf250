import { useEffect, useState } from "react";
import { knownPlaces, type Places, placed } from "./places.ts";
import type { Drawing } from "./shape.ts";

/** Return where the shapes of a drawing are; the former places until the new ones are known. */
export function useLayout(drawing: Drawing): Places | null {
  const [places, setPlaces] = useState(() => knownPlaces(drawing));
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key says whether places change
  useEffect(() => {
    let isWanted = true;
    const known = knownPlaces(drawing);
    if (known) setPlaces(known);
    else if (drawing.shapes.length)
      void placed(drawing).then((found) => isWanted && setPlaces(found));
    return () => {
      isWanted = false;
    };
  }, [drawing.key]);
  return places;
}
