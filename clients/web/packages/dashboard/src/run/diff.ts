/** The lines in which two texts differ. Pure. */

export interface Line {
  side: "both" | "first" | "second";
  text: string;
}

/** Longer texts are not compared line by line. */
const MAX_LINES = 800;
/** Equal lines that are kept around a difference. */
const AROUND = 2;

/** Return the lines of both texts in order; null if they are too long. */
export function differences(first: string, second: string): Line[] | null {
  const [a, b] = [first.split("\n"), second.split("\n")];
  if (a.length > MAX_LINES || b.length > MAX_LINES) return null;
  // The length of the longest common part of what follows line i and line j.
  const common = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  const at = (i: number, j: number) => common[i]?.[j] ?? 0;
  for (let i = a.length - 1; i >= 0; i--) {
    const row = common[i] as Uint16Array;
    for (let j = b.length - 1; j >= 0; j--)
      row[j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
  }
  const lines: Line[] = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      lines.push({ side: "both", text: a[i] ?? "" });
      i += 1;
      j += 1;
    } else if (j >= b.length || (i < a.length && at(i + 1, j) >= at(i, j + 1))) {
      lines.push({ side: "first", text: a[i] ?? "" });
      i += 1;
    } else {
      lines.push({ side: "second", text: b[j] ?? "" });
      j += 1;
    }
  }
  return lines;
}

/** Leave out equal lines that are far from a difference; null stands for those. */
export function shortened(lines: readonly Line[]): (Line | null)[] {
  const isNear = (index: number) =>
    lines
      .slice(Math.max(0, index - AROUND), index + AROUND + 1)
      .some(({ side }) => side !== "both");
  const kept: (Line | null)[] = [];
  lines.forEach((line, index) => {
    if (isNear(index)) kept.push(line);
    else if (kept.at(-1) !== null) kept.push(null);
  });
  return kept;
}
