/** Places for graphs that are too large for a layout without crossings. Pure. */
import type { LayoutAnswer, LayoutRequest } from "./layout.worker.ts";

const COLUMN_GAP = 62;
const ROW_GAP = 18;

/**
 * Place each shape one column after what leads to it, in the order of the middles of these.
 *
 * @param shapes in topological order.
 */
export function columns(
  shapes: LayoutRequest["shapes"],
  edges: LayoutRequest["edges"],
): LayoutAnswer["places"] {
  const before = new Map<string, string[]>(shapes.map(({ id }) => [id, []]));
  for (const { source, target } of edges) before.get(target)?.push(source);
  const columnOf = new Map<string, number>();
  const filled: LayoutRequest["shapes"][] = [];
  for (const shape of shapes) {
    const column = Math.max(0, ...needs(shape.id).map((id) => (columnOf.get(id) ?? -1) + 1));
    columnOf.set(shape.id, column);
    filled[column] ??= [];
    filled[column].push(shape);
  }
  const middles = new Map<string, number>();
  const places: LayoutAnswer["places"] = [];
  let x = 0;
  for (const column of filled) {
    const wish = new Map(
      column.map(({ id }) => [id, mean(needs(id).map((each) => middles.get(each) ?? 0))]),
    );
    column.sort((one, other) => (wish.get(one.id) ?? 0) - (wish.get(other.id) ?? 0));
    const height = column.reduce((sum, shape) => sum + shape.height + ROW_GAP, -ROW_GAP);
    let y = -height / 2;
    for (const shape of column) {
      middles.set(shape.id, y + shape.height / 2);
      places.push([shape.id, x, y]);
      y += shape.height + ROW_GAP;
    }
    x += Math.max(...column.map(({ width }) => width)) + COLUMN_GAP;
  }
  return places;

  function needs(id: string): string[] {
    return before.get(id) ?? [];
  }
}

const mean = (values: number[]): number =>
  values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : 0;
