/** The steps of a drawing as the rows of a tree: a pile holds its members. Pure. */
import type { Drawing, Shape } from "./shape.ts";

export interface Row {
  id: string;
  /** The shape that draws it. */
  shape: Shape;
  level: 1 | 2;
  /** Its place among its siblings, from 1. */
  position: number;
  siblings: number;
  /** The row of its pile; -1 at the first level. */
  parent: number;
}

export function rowsOf({ shapes }: Drawing, expanded: ReadonlySet<string>): Row[] {
  const rows: Row[] = [];
  shapes.forEach((shape, index) => {
    const parent = rows.length;
    const siblings = shapes.length;
    rows.push({ id: shape.id, shape, level: 1, position: index + 1, siblings, parent: -1 });
    if (shape.kind === "step" || !expanded.has(shape.id)) return;
    shape.members.forEach((id, member) => {
      const many = shape.members.length;
      rows.push({ id, shape, level: 2, position: member + 1, siblings: many, parent });
    });
  });
  return rows;
}

export const isPile = ({ level, shape }: Row): boolean => level === 1 && shape.kind === "pile";

const PAGE = 10;

/** Where a key leads from a row; null if it moves nothing. */
export function moved(key: string, at: number, rows: readonly Row[]): number | null {
  const row = rows[at];
  const last = rows.length - 1;
  const within = (to: number) => Math.min(last, Math.max(0, to));
  switch (key) {
    case "ArrowDown":
      return within(at + 1);
    case "ArrowUp":
      return within(at - 1);
    case "PageDown":
      return within(at + PAGE);
    case "PageUp":
      return within(at - PAGE);
    case "Home":
      return 0;
    case "End":
      return last;
    case "ArrowRight":
      return rows[at + 1]?.parent === at ? at + 1 : null;
    case "ArrowLeft":
      return row && row.parent >= 0 ? row.parent : null;
    default:
      return null;
  }
}
