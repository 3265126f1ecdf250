import { expect, test } from "vitest";
import { parse } from "../src/place.ts";

test("a path that is not encoded correctly is taken as it is", () => {
  expect(parse("/runs/%").path).toEqual(["runs", "%"]);
  expect(parse("/runs/a%20b?tab=logs").path).toEqual(["runs", "a b"]);
});
