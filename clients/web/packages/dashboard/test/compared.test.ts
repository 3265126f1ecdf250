import { expect, test } from "vitest";
import { compared } from "../src/run/compared.ts";

const log = ["a", "b", "c"].map((node_id) => ({
  type: "step:started",
  data: { node_id },
  timestamp: "2026-01-01T00:00:00.000Z",
}));
const [a, b, c] = log as [(typeof log)[0], (typeof log)[0], (typeof log)[0]];

const NOTHING = { events: 3, missing: 0, doubled: 0, displaced: 0 };

test.each([
  ["all", [a, b, c], {}],
  ["a beginning", [a, b], { events: 2 }],
  ["more than was read of the log", [a, b, c, a], {}],
  ["one twice", [a, a, b], { missing: 1, doubled: 1 }],
  ["two exchanged", [b, a, c], { displaced: 2 }],
  ["one never", [a, c], { events: 2, missing: 1, doubled: 1 }],
])("a page that has %s", (_name, received, comparison) => {
  expect(compared(received, log)).toEqual({ ...NOTHING, ...comparison });
});
