import fc from "fast-check";
import { expect, test } from "vitest";
import { columns } from "../src/run/columns.ts";

const graph = fc.integer({ min: 1, max: 40 }).chain((count) =>
  fc.record({
    shapes: fc.constant(
      Array.from({ length: count }, (_, n) => ({
        id: `${n}`,
        width: 176,
        height: 50 + (n % 3) * 8,
      })),
    ),
    edges: fc
      .array(fc.tuple(fc.nat(count - 1), fc.nat(count - 1)), { maxLength: 80 })
      .map((pairs) =>
        pairs
          .filter(([source, target]) => source < target)
          .map(([source, target]) => ({ source: `${source}`, target: `${target}` })),
      ),
  }),
);

test("every shape is right of what leads to it, and no two overlap", () => {
  fc.assert(
    fc.property(graph, ({ shapes, edges }) => {
      const places = new Map(columns(shapes, edges).map(([id, x, y]) => [id, { x, y }]));
      const at = (id: string) => places.get(id) ?? { x: Number.NaN, y: Number.NaN };
      const isBehind = edges.every(({ source, target }) => at(target).x >= at(source).x + 176);
      const overlaps = shapes.some((one) =>
        shapes.some(
          (other) =>
            one !== other &&
            at(one.id).x === at(other.id).x &&
            at(one.id).y <= at(other.id).y &&
            at(one.id).y + one.height > at(other.id).y,
        ),
      );
      expect([places.size, isBehind, overlaps]).toEqual([shapes.length, true, false]);
    }),
  );
});

test("ten thousand shapes are placed", () => {
  const shapes = Array.from({ length: 10_000 }, (_, n) => ({ id: `${n}`, width: 176, height: 50 }));
  const edges = shapes.slice(1).map((_, n) => ({ source: `${n}`, target: `${n + 1}` }));
  expect(columns(shapes, edges)).toHaveLength(10_000);
});
