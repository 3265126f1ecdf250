import { expect, test } from "vitest";
import { lineOf, parsed, textOf } from "../src/editor/source.ts";

const definition = { id: "a", nodes: { greet: { type: "log", needs: ["b", "c/d"] } } };

test.each([
  ["YAML", textOf(definition)],
  ["JSON", JSON.stringify(definition, null, 2)],
])("a problem in %s has a place", (_, text) => {
  const { value, faults, find } = parsed(text);
  expect(value).toEqual(definition);
  expect(faults).toEqual([]);
  const shown = (pointer: string) => {
    const { from, to } = find(pointer);
    return text.slice(from, to);
  };
  expect(shown("/nodes/greet/type")).toMatch(/^"?type"?: "?log"?$/);
  expect(shown("/nodes/greet/needs/1")).toMatch(/^"?c\/d"?$/);
  // What is missing is shown at what it is missing in.
  expect(shown("/nodes/greet/with/message")).toMatch(/^"?greet"?$/);
});

test("a text that is not YAML has faults, and no value", () => {
  const { value, faults } = parsed("nodes: {");
  expect(value).toBeNull();
  expect(faults.length).toBeGreaterThan(0);
});

test("a name of nodes with a slash is found", () => {
  const text = textOf({ nodes: { "a/b": { type: "log" } } });
  const { from } = parsed(text).find("/nodes/a~1b/type");
  expect(lineOf(text, from)).toEqual({ line: 3, column: 5 });
});
