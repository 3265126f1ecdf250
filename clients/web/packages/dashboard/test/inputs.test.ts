// @vitest-environment jsdom
import { beforeEach, expect, test, vi } from "vitest";
import { forgetInputs, keepInput, keptInput } from "../src/data/inputs.ts";

beforeEach(() => sessionStorage.clear());

const SECRET = { type: "string", sensitive: true };
const INPUT = { name: "Ann", iban: "AT61", owner: { pin: "1234" } };

test("an input is offered again without its sensitive fields", () => {
  const owner = { type: "object", properties: { pin: SECRET } };
  keepInput("check", { properties: { name: { type: "string" }, iban: SECRET, owner } }, INPUT);
  expect(keptInput("check")).toEqual({ name: "Ann" });
});

test("nothing is kept where a mark may belong to any field", () => {
  keepInput("check", { properties: { name: {} } }, INPUT);
  keepInput("check", { $defs: { iban: SECRET }, properties: { iban: { $ref: "#" } } }, INPUT);
  expect(keptInput("check")).toEqual({});
  expect(JSON.stringify({ ...sessionStorage })).not.toContain("AT61");
});

test("another user finds no input", () => {
  sessionStorage.setItem("tailrace.token", "t");
  keepInput("check", undefined, INPUT);
  forgetInputs();
  expect(Object.keys(sessionStorage)).toEqual(["tailrace.token"]);
});

test("a full storage keeps nothing, and is no error", () => {
  const full = vi.spyOn(Storage.prototype, "setItem").mockImplementation(() => {
    throw new DOMException("full", "QuotaExceededError");
  });
  keepInput("check", undefined, INPUT);
  full.mockRestore();
  expect(keptInput("check")).toEqual({});
});
