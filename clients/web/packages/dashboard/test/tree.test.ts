import { expect, test } from "vitest";
import type { Drawing, Shape } from "../src/run/shape.ts";
import { moved, rowsOf } from "../src/run/tree.ts";

const shape = (id: string, members: string[] = []): Shape => ({
  ...{ id, kind: members.length ? "pile" : "step", title: id, type: "log", members },
  ...{ width: 1, height: 1 },
});
const drawing: Drawing = {
  shapes: [shape("first"), shape("pile", ["a", "b", "c"]), shape("last")],
  edges: [],
  shapeOf: new Map(),
  key: "",
};

test("a pile is one row until it is expanded, then its members follow it", () => {
  expect(rowsOf(drawing, new Set()).map(({ id }) => id)).toEqual(["first", "pile", "last"]);
  const rows = rowsOf(drawing, new Set(["pile"]));
  expect(rows.map(({ id, level, position, siblings }) => [id, level, position, siblings])).toEqual([
    ["first", 1, 1, 3],
    ["pile", 1, 2, 3],
    ["a", 2, 1, 3],
    ["b", 2, 2, 3],
    ["c", 2, 3, 3],
    ["last", 1, 3, 3],
  ]);
});

test("keys move between the rows, into a pile and out of it", () => {
  const rows = rowsOf(drawing, new Set(["pile"]));
  const from = (id: string, key: string) => {
    const to = moved(
      key,
      rows.findIndex((row) => row.id === id),
      rows,
    );
    return to === null ? null : rows[to]?.id;
  };
  expect(from("first", "ArrowDown")).toBe("pile");
  expect(from("first", "ArrowUp")).toBe("first");
  expect(from("pile", "ArrowRight")).toBe("a");
  expect(from("b", "ArrowLeft")).toBe("pile");
  expect(from("first", "ArrowRight")).toBe(null);
  expect(from("first", "ArrowLeft")).toBe(null);
  expect(from("first", "End")).toBe("last");
  expect(from("last", "Home")).toBe("first");
  expect(from("first", "PageDown")).toBe("last");
  expect(from("first", "x")).toBe(null);
});
