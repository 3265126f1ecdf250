/** What can be typed at a place of a definition, in YAML or in indented JSON. Pure. */
import type { NodeType, Schema } from "../data/types.ts";

export interface Option {
  label: string;
  type: "type" | "variable" | "property" | "enum";
  detail?: string;
  info?: string;
}

export interface Options {
  /** Where the word begins that an option replaces. */
  from: number;
  options: Option[];
}

const FIELDS = [
  "type",
  "name",
  "needs",
  "with",
  "when",
  "join",
  "timeout",
  "retry",
  "stage",
  "on_error",
  "on_timeout",
  "on_crash",
  "sensitive",
];
const WORD = /[\w.-]*$/;
const TYPE = /\btype"?:\s*"?([\w.-]+)/;

/**
 * Return the types of nodes, the nodes that can be needed, the parameters of a node's type with their
 * values, or the fields of a node; null where none of them is.
 */
export function optionsAt(
  text: string,
  position: number,
  types: readonly NodeType[],
): Options | null {
  const start = text.lastIndexOf("\n", position - 1) + 1;
  const before = text.slice(start, position);
  const word = WORD.exec(before)?.[0] ?? "";
  const of = (options: Option[]): Options => ({
    from: position - word.length,
    options: options.filter(({ label }) => label && label !== word),
  });
  const named = (pattern: RegExp, type: Option["type"]) =>
    [...new Set([...text.matchAll(pattern)].map(([, label = ""]) => label))].map((label) => ({
      label,
      type,
    }));
  if (/\btype"?:\s*"?[\w.-]*$/.test(before)) {
    const known = types.map(
      ({ type, summary }): Option => ({
        label: type,
        type: "type",
        info: summary,
      }),
    );
    const names = new Set(types.map(({ type }) => type));
    const used = named(new RegExp(TYPE, "g"), "type").filter(({ label }) => !names.has(label));
    return of([...known, ...used]);
  }
  if (/(^\s*-\s+"?|\bneeds"?:.*)[\w.-]*$/.test(before))
    return of(named(/^ {2,4}"?([\w-]+)"?:\s*(?:\{|$)/gm, "variable"));
  const typed = typeAround(text, start, before);
  if (typed !== null) {
    const schema = types.find(({ type }) => type === typed)?.parameters;
    const value = /([\w-]+)"?:\s*"?[\w.-]*$/.exec(before);
    if (value) return of(valuesOf(schema, value[1] ?? ""));
    return /(?:^\s*|[{,]\s*)"?[\w.-]*$/.test(before) ? of(parametersOf(schema)) : null;
  }
  if (!/^\s*"?\w*$/.test(before)) return null;
  return of(FIELDS.map((label) => ({ label, type: "property" })));
}

/**
 * Return the type of the node whose parameters are at a place; empty if it is unknown, and inside of a
 * parameter; null outside of `with`.
 */
function typeAround(text: string, start: number, before: string): string | null {
  if (/\bwith"?:\s*\{[^}]*$/.test(before)) {
    const own = TYPE.exec(before);
    if (own) return own[1] ?? "";
    return /^\s*"?with/.test(before) ? typeBeside(text, start) : null;
  }
  let indent = indentOf(before);
  let isParameter = true;
  for (let above = start; above > 0; ) {
    above = text.lastIndexOf("\n", above - 2) + 1;
    const line = lineAt(text, above);
    if (!line.trim() || indentOf(line) >= indent) continue;
    indent = indentOf(line);
    if (/^\s*"?with"?:\s*\{?\s*$/.test(line)) return isParameter ? typeBeside(text, above) : "";
    // The node of a map's items has fields of its own.
    if (/^\s*"?do"?:/.test(line)) return null;
    isParameter = false;
  }
  return null;
}

/** Return the type that a node has beside its `with`. */
function typeBeside(text: string, start: number): string {
  const indent = indentOf(lineAt(text, start));
  const lines = text.split("\n");
  const at = text.slice(0, start).split("\n").length - 1;
  const isOfNode = (line: string) => !line.trim() || indentOf(line) >= indent;
  let first = at;
  while (first > 0 && isOfNode(lines[first - 1] ?? "")) first--;
  for (let index = first; index < lines.length; index++) {
    const line = lines[index] ?? "";
    if (index > at && !isOfNode(line)) break;
    const found = indentOf(line) === indent ? /^\s*"?type"?:\s*"?([\w.-]+)/.exec(line) : null;
    if (found) return found[1] ?? "";
  }
  return "";
}

const indentOf = (line: string): number => line.length - line.trimStart().length;

function lineAt(text: string, start: number): string {
  const end = text.indexOf("\n", start);
  return text.slice(start, end < 0 ? text.length : end);
}

function parametersOf(schema: Schema | undefined): Option[] {
  const required = new Set(listOf(schema?.required));
  return Object.entries(mapOf(schema?.properties)).map(([label, each]): Option => {
    const { description } = mapOf(each);
    return {
      label,
      type: "property",
      ...(required.has(label) ? { detail: "required" } : {}),
      ...(typeof description === "string" ? { info: description } : {}),
    };
  });
}

/** Return the values that a parameter may have, if its schema lists them. */
function valuesOf(schema: Schema | undefined, name: string): Option[] {
  const parameter = mapOf(mapOf(schema?.properties)[name]);
  // A value may be an expression instead.
  const [value] = listOf(parameter.anyOf);
  const values = listOf((value === undefined ? parameter : mapOf(value)).enum);
  return values.map((each) => ({ label: String(each), type: "enum" }));
}

const listOf = (value: Schema[string] | undefined) => (Array.isArray(value) ? value : []);
const mapOf = (value: Schema[string] | undefined): Schema =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? value : {};
