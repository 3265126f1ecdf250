import { expect, test } from "vitest";
import { changesOf, ordered, pairOf } from "../src/pages/versions.ts";

test("nodes that were added, removed or changed are named; an order of fields is no change", () => {
  const first = {
    nodes: { a: { type: "log", needs: ["x"] }, b: { type: "log" }, c: { type: "log" } },
  };
  const second = { nodes: { d: {}, a: { needs: ["x"], type: "log" }, b: { type: "http" } } };
  expect(changesOf(first, second)).toEqual({ added: ["d"], removed: ["c"], changed: ["b"] });
  expect(changesOf(first, first)).toEqual({ added: [], removed: [], changed: [] });
});

test("an order of a list is a change", () => {
  const [first, second] = [{ nodes: { a: ["x", "y"] } }, { nodes: { a: ["y", "x"] } }];
  expect(changesOf(first, second).changed).toEqual(["a"]);
});

test("a node that is named like a property of objects is found", () => {
  const changes = changesOf({ nodes: {} }, { nodes: { constructor: {}, toString: {} } });
  expect(changes.added).toEqual(["constructor", "toString"]);
});

test("the newest two versions are compared, or those asked for, the older one first", () => {
  expect(pairOf([3, 2, 1], { from: 0, to: 0 })).toEqual([2, 3]);
  expect(pairOf([3, 2, 1], { from: 0, to: 2 })).toEqual([1, 2]);
  expect(pairOf([3, 2, 1], { from: 3, to: 1 })).toEqual([1, 3]);
  expect(pairOf([3, 2, 1], { from: 9, to: 9 })).toEqual([2, 3]);
});

test("one version, or the same twice, is no pair", () => {
  for (const versions of [[], [1]]) expect(pairOf(versions, { from: 0, to: 0 })).toBeNull();
  expect(pairOf([2, 1], { from: 2, to: 2 })).toBeNull();
});

test("fields are ordered at any depth, and lists are not", () => {
  const text = JSON.stringify(ordered({ b: [{ d: 1, c: null }, 0], a: "x" }));
  expect(text).toBe('{"a":"x","b":[{"c":null,"d":1},0]}');
});
