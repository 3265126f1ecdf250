import { expect, test } from "vitest";
import { filterOf, isFiltered, parametersOf } from "../src/data/runFilter.ts";
import { localOf, timeOf } from "../src/ui/format.ts";

const sent = (place: string, now = 0) => parametersOf(filterOf(new URLSearchParams(place)), now);

test("the API selects by all that the place of the page says", () => {
  const times = "created_after=2026-11-01T00:00:00Z&created_before=2026-11-02T00:00:00Z";
  const place = `status=failed&q=order&tag=nightly&parent=abc&${times}&cursor=c`;
  expect(sent(`${place}&workflow=w&at=7`)).toEqual({
    ...Object.fromEntries(new URLSearchParams(place)),
    workflow_id: "w",
    limit: 50,
  });
});

test("a range up to now moves with the clock", () => {
  const now = Date.parse("2026-11-30T12:00:00Z");
  expect(sent("within=24h", now)).toMatchObject({ created_after: "2026-11-29T12:00:00.000Z" });
  expect(sent("within=unknown", now)).not.toHaveProperty("created_after");
});

test("a list without a filter is not filtered", () => {
  expect(isFiltered(filterOf(new URLSearchParams("cursor=c&other=x")))).toBe(false);
  expect(isFiltered(filterOf(new URLSearchParams("tag=x")))).toBe(true);
});

test("a time is shown as that of this computer, and sent with its time zone", () => {
  expect(timeOf(localOf("2026-11-30T12:34:00.000Z"))).toBe("2026-11-30T12:34:00.000Z");
  expect(localOf("never")).toBe("");
  expect(timeOf("")).toBe("");
});
