import { expect, test } from "vitest";
import { differences, shortened } from "../src/run/diff.ts";

const text = (...lines: string[]) => lines.join("\n");

test("the lines of both texts are kept in order", () => {
  const lines = differences(text("a", "b", "c", "d"), text("a", "x", "c", "d", "e"));
  expect(lines?.map(({ side, text }) => `${side} ${text}`)).toEqual([
    "both a",
    "first b",
    "second x",
    "both c",
    "both d",
    "second e",
  ]);
});

test("equal texts have no difference", () => {
  expect(differences("a", "a")?.every(({ side }) => side === "both")).toBe(true);
});

test("a text that is too long is not compared", () => {
  expect(differences("a\n".repeat(2_000), "a")).toBeNull();
});

test("equal lines far from a difference are left out", () => {
  const same = Array.from({ length: 10 }, (_, index) => `line ${index}`);
  const lines = differences(text(...same, "a"), text(...same, "b")) ?? [];
  expect(shortened(lines).map((line) => line?.text ?? null)).toEqual([
    null,
    "line 8",
    "line 9",
    "a",
    "b",
  ]);
});
