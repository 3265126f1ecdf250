import type { Connection } from "@tailrace/client";
import { expect, test } from "vitest";
import { wordsOf } from "../src/ui/connection.ts";

const wordOf = (state: Connection["state"], detail: Connection["detail"] = null) =>
  wordsOf({ state, detail })[1];

test("only an open stream is live", () => {
  expect(wordOf("connected")).toBe("Live");
  for (const state of ["disconnected", "connecting", "reconnecting", "error"] as const)
    expect(wordOf(state)).not.toBe("Live");
});

test("each cause of no stream has a word of its own", () => {
  expect(wordOf("disconnected")).toBe("Idle");
  expect(wordOf("disconnected", "ended")).toBe("Ended");
  expect(wordOf("disconnected", "hidden")).toBe("Paused");
  expect(wordOf("error", "refused")).toBe("Refused");
  expect(wordOf("error")).toBe("No stream");
  expect(wordOf("disconnected", "manual")).toBe("Cut");
  expect(wordOf("reconnecting", "draining")).toBe("Reconnecting");
});
