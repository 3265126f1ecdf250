/** The text of a definition, in YAML or in JSON, which is YAML as well. Pure. */
import { isMap, isScalar, isSeq, type Node, parseDocument, stringify } from "yaml";

/** A problem and its place, in characters from the beginning. */
export interface Fault {
  from: number;
  to: number;
  message: string;
}

export interface Source {
  value: unknown;
  /** What is not YAML; the value is not to be used then. */
  faults: Fault[];
  /** Return the place that a JSON Pointer names, or the nearest that exists around it. */
  find: (pointer: string) => { from: number; to: number };
}

export const textOf = (value: unknown): string => stringify(value, { lineWidth: 96 });

export function parsed(text: string): Source {
  const document = parseDocument(text);
  return {
    value: document.errors.length ? null : document.toJS(),
    faults: document.errors.map(({ pos: [from, to], message }) => ({
      from,
      to,
      message: message.split("\n")[0]?.replace(/ at line \d+, column \d+:?$/, "") ?? message,
    })),
    find: (pointer) => placeOf(document.contents, pointer),
  };
}

function placeOf(root: Node | null, pointer: string): { from: number; to: number } {
  const keys = pointer
    .split("/")
    .slice(1)
    .map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
  let node: unknown = root;
  let found = { from: 0, to: 0 };
  for (const key of keys) {
    if (isMap(node)) {
      const pair = node.items.find((each) => isScalar(each.key) && String(each.key.value) === key);
      if (!pair) break;
      found = rangeOf(pair.key, isScalar(pair.value) ? pair.value : pair.key) ?? found;
      node = pair.value;
    } else if (isSeq(node)) {
      const item = node.items[Number(key)];
      if (item === undefined) break;
      found = rangeOf(item, item) ?? found;
      node = item;
    } else break;
  }
  return found;
}

function rangeOf(first: unknown, last: unknown): { from: number; to: number } | null {
  const [start, end] = [first, last].map((each) => (each as Node | null)?.range);
  return start && end ? { from: start[0], to: end[1] } : null;
}

/** Return the line and the column of a place, as people count them. */
export function lineOf(text: string, at: number): { line: number; column: number } {
  const before = text.slice(0, at).split("\n");
  return { line: before.length, column: (before.at(-1)?.length ?? 0) + 1 };
}
