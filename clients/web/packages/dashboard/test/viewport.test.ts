import fc from "fast-check";
import { expect, test } from "vitest";
import { areaOf, fitted, overlap, zoomed } from "../src/run/viewport.ts";

const WIDTH = 1_000;
const HEIGHT = 600;
const box = (x: number, y: number, width = 176, height = 50) => ({ x, y, width, height });
const view = fc.record({
  x: fc.integer({ min: -5_000, max: 5_000 }),
  y: fc.integer({ min: -5_000, max: 5_000 }),
  zoom: fc.double({ min: 0.1, max: 2, noNaN: true }),
});

test("a small graph is shown whole, in the middle", () => {
  const { x, y, zoom } = fitted([box(0, 0), box(400, 100)], WIDTH, HEIGHT);
  expect(zoom).toBe(1.15);
  expect(x + (576 / 2) * zoom).toBeCloseTo(WIDTH / 2);
  expect(y + (150 / 2) * zoom).toBeCloseTo(HEIGHT / 2);
});

test("a graph too large to be read whole is shown from its beginning", () => {
  const { x, zoom } = fitted([box(50, 0), box(40_000, 0)], WIDTH, HEIGHT);
  expect(zoom).toBe(0.45);
  expect(x + 50 * zoom).toBeCloseTo(60);
});

test("zooming keeps the point below the pointer where it is", () => {
  fc.assert(
    fc.property(view, fc.double({ min: 0.5, max: 2, noNaN: true }), (before, factor) => {
      const after = zoomed(before, factor, 300, 200);
      const at = ({ x, y, zoom }: typeof before) => [(300 - x) / zoom, (200 - y) / zoom];
      const [x = 0, y = 0] = at(before);
      expect(at(after)[0]).toBeCloseTo(x, 3);
      expect(at(after)[1]).toBeCloseTo(y, 3);
    }),
  );
});

test("what is drawn contains what is seen", () => {
  fc.assert(
    fc.property(view, fc.integer({ min: -9_000, max: 9_000 }), (seen, place) => {
      const node = box(place, place / 3);
      if (overlap(node, areaOf(seen, WIDTH, HEIGHT, 0)))
        expect(overlap(node, areaOf(seen, WIDTH, HEIGHT, 0.6))).toBe(true);
    }),
  );
});
