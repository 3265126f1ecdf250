/** What two versions of a workflow differ in. Pure. */

/** A workflow's definition, as far as it is compared here. */
interface Defined {
  nodes: { readonly [id: string]: unknown };
}

export interface Changes {
  added: string[];
  removed: string[];
  changed: string[];
}

/** Return the nodes that differ. The order of a node's fields says nothing. */
export function changesOf(first: Defined, second: Defined): Changes {
  const [old, now] = [first.nodes, second.nodes];
  return {
    added: Object.keys(now).filter((id) => !Object.hasOwn(old, id)),
    removed: Object.keys(old).filter((id) => !Object.hasOwn(now, id)),
    changed: Object.keys(now).filter(
      (id) => Object.hasOwn(old, id) && textOf(old[id]) !== textOf(now[id]),
    ),
  };
}

/** Return the two versions to compare, the older one first: those asked for, else the newest two. */
export function pairOf(
  versions: readonly number[],
  asked: { from: number; to: number },
): [from: number, to: number] | null {
  const known = [...versions].sort((one, other) => other - one);
  const to = known.includes(asked.to) ? asked.to : known[0];
  const from = known.includes(asked.from) ? asked.from : known.find((each) => each < (to ?? 0));
  if (to === undefined || from === undefined || from === to) return null;
  return from < to ? [from, to] : [to, from];
}

/** Return a value with the fields of its objects in one order. */
export function ordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(ordered);
  if (value === null || typeof value !== "object") return value;
  const fields = Object.entries(value).sort(([one], [other]) => (one < other ? -1 : 1));
  return Object.fromEntries(fields.map(([name, each]) => [name, ordered(each)]));
}

const textOf = (value: unknown): string => JSON.stringify(ordered(value));
