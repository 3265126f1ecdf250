import { expect, test } from "vitest";
import { bytes, duration, fitName, until } from "../src/ui/format.ts";

test.each([
  [0, "0 ms"],
  [999.4, "999 ms"],
  [1_800, "1.8 s"],
  [59_000, "59 s"],
  [252_000, "4 min 12 s"],
  [86_220_000, "23 h 57 min"],
  [86_400_000, "1 d"],
  [null, "–"],
])("%s ms are %s", (ms, words) => {
  expect(duration(ms)).toBe(words);
});

test("a time that has come is due", () => {
  expect(until("2026-01-01T00:00:00Z", Date.parse("2026-01-01T00:00:01Z"))).toBe("due");
  expect(until("2026-01-01T00:00:30Z", Date.parse("2026-01-01T00:00:00Z"))).toBe("in 30 s");
  expect(until(null, 0)).toBe("no limit");
});

test("a long id keeps its end, a long name its beginning", () => {
  expect(fitName("NFCORE_HIC.HIC.INPUT_CHECK.SAMPLESHEET_7")).toBe("…UT_CHECK.SAMPLESHEET_7");
  expect(fitName("Match each line with the catalogue")).toBe("Match each line with the catalogue");
});

test("sizes are in the unit that people read", () => {
  expect([bytes(12), bytes(2_048), bytes(20_480), bytes(3_145_728)]).toEqual([
    "12 B",
    "2.0 KiB",
    "20 KiB",
    "3.0 MiB",
  ]);
});
