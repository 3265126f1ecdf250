/** Numbers and times in the words that people say. Pure. */

const UNITS: [string, number][] = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1_000],
];

export function duration(ms: number | null | undefined): string {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "–";
  if (ms < 0) return "0 s";
  if (ms < 1_000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1_000).toFixed(1)} s`;
  if (ms < 60_000) return `${Math.round(ms / 1_000)} s`;
  const first = UNITS.findIndex(([, size]) => ms >= size);
  const parts: string[] = [];
  let rest = ms;
  for (const [unit, size] of UNITS.slice(first, first + 2)) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count) parts.push(`${count} ${unit}`);
  }
  return parts.join(" ");
}

export function ago(at: string | number | null, now: number): string {
  if (at === null) return "–";
  const ms = now - (typeof at === "number" ? at : Date.parse(at));
  if (ms < 2_000) return "just now";
  const [unit, size] = UNITS.find(([, each]) => ms >= each) ?? ["s", 1_000];
  return `${Math.floor(ms / size)} ${unit} ago`;
}

export function until(at: string | null | undefined, now: number): string {
  if (!at) return "no limit";
  const ms = Date.parse(at) - now;
  return ms <= 0 ? "due" : `in ${duration(ms)}`;
}

export function clock(at: string | number | null | undefined, withMs = false): string {
  if (!at) return "–";
  const date = new Date(at);
  const pad = (value: number, width = 2) => String(value).padStart(width, "0");
  const time = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
  return withMs ? `${time}.${pad(date.getMilliseconds(), 3)}` : time;
}

// Made once: it costs milliseconds.
const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });

export function moment(at: string | null): string {
  if (!at) return "–";
  const date = new Date(at);
  if (new Date().toDateString() === date.toDateString()) return clock(at);
  return `${DAY.format(date)} ${clock(at)}`;
}

export function count(value: number, one: string, many = `${one}s`): string {
  return `${value.toLocaleString("en")} ${value === 1 ? one : many}`;
}

export function bytes(value: number): string {
  if (value < 1024) return `${value} B`;
  const [size, unit] = value < 1024 ** 2 ? [value / 1024, "KiB"] : [value / 1024 ** 2, "MiB"];
  return `${size.toFixed(size < 10 ? 1 : 0)} ${unit}`;
}

/** Shorten a long name that has no spaces at its beginning, because its end tells it from others. */
export const fitName = (name: string): string =>
  name.length > 24 && !name.includes(" ") ? `…${name.slice(-22)}` : name;

export const shortId = (id: string): string => (id.length > 20 ? id.slice(0, 18) : id);

export const percent = (value: number | null): string =>
  value === null ? "–" : `${(value * 100).toFixed(value > 0.99 && value < 1 ? 1 : 0)} %`;

const MINUTE_MS = 60_000;

/** Return a time for a field of a date and a time, which shows that of this computer. */
export function localOf(time: string | undefined): string {
  const at = Date.parse(time ?? "");
  if (Number.isNaN(at)) return "";
  return new Date(at - new Date(at).getTimezoneOffset() * MINUTE_MS).toISOString().slice(0, 16);
}

/** Return what the API reads for such a field. */
export function timeOf(local: string): string {
  const at = new Date(local).getTime();
  return Number.isNaN(at) ? "" : new Date(at).toISOString();
}
