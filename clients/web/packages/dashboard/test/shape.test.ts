import { expect, test } from "vitest";
import type { GraphDocument } from "../src/data/types.ts";
import { pendingStep } from "../src/run/fold.ts";
import { descendantsOf, drawingOf, relativesOf } from "../src/run/shape.ts";

const node = (id: string, type = "simulate") => ({ id, type, name: id, stage: null });

/** A start, a layer of equal steps, and an end. */
function fan(width: number): GraphDocument {
  const middle = Array.from({ length: width }, (_, index) => `m${index}`);
  return {
    nodes: [node("start"), ...middle.map((id) => node(id, "http")), node("end", "log")],
    edges: middle.flatMap((id) => [
      { source: "start", target: id },
      { source: id, target: "end" },
    ]),
    layers: [["start"], middle, ["end"]],
  };
}

test("a small graph is drawn step by step", () => {
  const { shapes, edges } = drawingOf(fan(20), new Map(), new Set());
  expect(shapes).toHaveLength(22);
  expect(edges).toHaveLength(40);
});

test("steps of a wide layer become one pile, and its edges one each", () => {
  const { shapes, edges, shapeOf } = drawingOf(fan(2_000), new Map(), new Set());
  expect(shapes.map(({ kind }) => kind)).toEqual(["step", "pile", "step"]);
  expect(shapes[1]?.members).toHaveLength(2_000);
  expect(edges).toHaveLength(2);
  expect(shapeOf.get("m1999")).toBe("pile:1:http");
});

test("failed steps stand beside their pile", () => {
  const failed = { ...pendingStep("m7"), status: "error" as const };
  const { shapes } = drawingOf(fan(100), new Map([["m7", failed]]), new Set());
  const pile = shapes.find(({ kind }) => kind === "pile");
  expect(shapes.map(({ id }) => id)).toContain("m7");
  expect(pile?.members).not.toContain("m7");
});

test("an opened pile is drawn step by step", () => {
  expect(drawingOf(fan(100), new Map(), new Set(["pile:1:http"])).shapes).toHaveLength(102);
});

test("a map becomes a pile of its items once it has them", () => {
  const map = { ...pendingStep("start", "map"), items: 5 };
  const { shapes, shapeOf } = drawingOf(fan(2), new Map([["start", map]]), new Set());
  expect(shapes[0]?.members).toEqual(["start[0]", "start[1]", "start[2]", "start[3]", "start[4]"]);
  expect(shapeOf.get("start[3]")).toBe("start");
});

test("relatives are all ancestors and descendants; a rerun begins with the descendants", () => {
  const graph = fan(3);
  expect(relativesOf(graph, "m1")).toEqual(new Set(["start", "m1", "end"]));
  expect(descendantsOf(graph, ["m1"])).toEqual(new Set(["m1", "end"]));
  expect(descendantsOf(graph, ["start"]).size).toBe(5);
});
