import { expect, test } from "vitest";
import type { NodeType } from "../src/data/types.ts";
import { optionsAt } from "../src/editor/complete.ts";

const LETTER: NodeType = {
  type: "letter",
  summary: "Sends a letter.",
  parameters: {
    type: "object",
    properties: {
      to: { type: "string", description: "Who receives it." },
      speed: { anyOf: [{ type: "string", enum: ["slow", "fast"] }, { type: "string" }] },
    },
    required: ["to"],
  },
};
const LOG: NodeType = {
  type: "log",
  summary: "Writes a line.",
  parameters: { properties: { message: {} } },
};

/** Return what can be typed at the bar of a text. */
function labelsAt(text: string): string[] | null {
  const found = optionsAt(text.replace("|", ""), text.indexOf("|"), [LETTER, LOG]);
  return found && found.options.map(({ label }) => label);
}

test.each<[string, string, string[]]>([
  [
    "types, with those that only the text has",
    "nodes:\n  a:\n    type: own\n  b:\n    type: l|",
    ["letter", "log", "own"],
  ],
  ["parameters", "nodes:\n  a:\n    type: letter\n    with:\n      t|", ["to", "speed"]],
  ["parameters before the type", "nodes:\n  a:\n    with:\n      |\n    type: log\n", ["message"]],
  [
    "parameters of the own node",
    "nodes:\n  b:\n    type: log\n  a:\n    with:\n      to: x\n      |\n    type: letter",
    ["to", "speed"],
  ],
  ["parameters in a line", "nodes:\n  a:\n    type: letter\n    with: {to: x, s|", ["to", "speed"]],
  ["parameters in a node in a line", "nodes:\n  a: {type: log, with: {m|}}", ["message"]],
  [
    "parameters in JSON",
    '{"nodes": {\n  "a": {\n    "type": "letter",\n    "with": {\n      "s|',
    ["to", "speed"],
  ],
  ["values", "nodes:\n  a:\n    type: letter\n    with:\n      speed: |", ["slow", "fast"]],
  ["no parameters of an unknown type", "nodes:\n  a:\n    type: own\n    with:\n      t|", []],
  [
    "nothing inside of a parameter",
    "nodes:\n  a:\n    type: letter\n    with:\n      to:\n        x|",
    [],
  ],
  [
    "parameters of the node of a map",
    "nodes:\n  a:\n    type: map\n    with:\n      do:\n        type: log\n        with:\n          m|",
    ["message"],
  ],
  ["nodes", "nodes:\n  a:\n    type: log\n  b:\n    needs: [|", ["a", "b"]],
])("%s are completed", (_, text, labels) => {
  expect(labelsAt(text)).toEqual(labels);
});

test("fields of a node are completed outside of its parameters", () => {
  expect(labelsAt("nodes:\n  a:\n    type: map\n    with:\n      do:\n        n|")).toContain(
    "name",
  );
  expect(labelsAt("nodes:\n  a:\n    with:\n      to: x\n    n|")).toContain("needs");
});

test("options say what they are", () => {
  const text = "nodes:\n  a:\n    type: letter\n    with:\n      ";
  const [to] = optionsAt(text, text.length, [LETTER])?.options ?? [];
  expect(to).toMatchObject({ detail: "required", info: "Who receives it." });
});
