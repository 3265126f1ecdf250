/** Which runs a list shows: the page's place says it, the API selects them. Pure. */

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** Ranges that move with the clock, by their name in the place. */
export const RECENT = {
  "15m": ["the last 15 minutes", 15 * MINUTE_MS],
  "1h": ["the last hour", HOUR_MS],
  "24h": ["the last 24 hours", 24 * HOUR_MS],
  "7d": ["the last 7 days", 7 * 24 * HOUR_MS],
  "30d": ["the last 30 days", 30 * 24 * HOUR_MS],
} as const;

const FIELDS = [
  "status",
  "workflow",
  "q",
  "tag",
  "parent",
  "within",
  "created_after",
  "created_before",
] as const;

export type RunFilter = { limit?: number; cursor?: string } & {
  [field in (typeof FIELDS)[number]]?: string;
};

export function filterOf(place: URLSearchParams): RunFilter {
  return Object.fromEntries(
    [...FIELDS, "cursor"].flatMap((field) => {
      const value = place.get(field);
      return value ? [[field, value]] : [];
    }),
  );
}

export const isFiltered = (filter: RunFilter): boolean => FIELDS.some((field) => filter[field]);

/** Return the parameters of the API's list. A range that moves begins at this time. */
export function parametersOf({ workflow, within, ...filter }: RunFilter, now: number) {
  const [, length] = RECENT[within as keyof typeof RECENT] ?? [];
  return {
    ...filter,
    workflow_id: workflow,
    ...(length ? { created_after: new Date(now - length).toISOString() } : {}),
    limit: filter.limit ?? 50,
  };
}
