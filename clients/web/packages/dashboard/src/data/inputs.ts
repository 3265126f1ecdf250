/** The last input of each workflow in this tab, because people repeat runs. */
import type { Json, Schema } from "./types.ts";

const PREFIX = "tailrace.input.";

export function keptInput(workflow: string): Json {
  return JSON.parse(sessionStorage.getItem(PREFIX + workflow) ?? "{}");
}

/** Keep an input without the fields that its schema marks as sensitive. */
export function keepInput(workflow: string, schema: Schema | undefined, input: Json): void {
  const { properties = {}, ...rest } = schema ?? {};
  // A mark that a reference or an alternative may bring to any field: keep nothing.
  if (isMarked(rest)) {
    sessionStorage.removeItem(PREFIX + workflow);
    return;
  }
  const fields = properties as Schema;
  const isObject = typeof input === "object" && input !== null && !Array.isArray(input);
  const kept = isObject
    ? Object.fromEntries(Object.entries(input).filter(([name]) => !isMarked(fields[name])))
    : input;
  try {
    sessionStorage.setItem(PREFIX + workflow, JSON.stringify(kept));
  } catch {
    // The storage is full: the input is offered no more, but its run starts.
  }
}

/** Forget what another user has entered. */
export function forgetInputs(): void {
  for (const key of Object.keys(sessionStorage))
    if (key.startsWith(PREFIX)) sessionStorage.removeItem(key);
}

const isMarked = (schema: Json | undefined): boolean =>
  JSON.stringify(schema ?? null).includes('"sensitive":true');
