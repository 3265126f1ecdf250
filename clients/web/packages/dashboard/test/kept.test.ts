import "fake-indexeddb/auto";
import { IDBFactory } from "fake-indexeddb";
import { beforeEach, expect, test, vi } from "vitest";
import { type Kept, KeptRuns } from "../src/data/kept.ts";
import type { RunEvent } from "../src/run/fold.ts";

const SCOPE = "https://example.org/ shop ada";
const timestamp = "2026-01-01T00:00:00.000Z";

beforeEach(() => {
  globalThis.indexedDB = new IDBFactory();
});

function log(run: string, steps: number, text = ""): RunEvent[] {
  const queued = { type: "execution:queued", data: { execution_id: run }, timestamp };
  const logged = { type: "step:log", data: { node_id: "a", message: text }, timestamp };
  return [queued, ...Array.from({ length: steps }, (_, line) => ({ ...logged, line }))];
}

/** Keep a run as a page does that is left at once. */
async function keep(events: RunEvent[], cursor: string, runs = new KeptRuns(SCOPE), run = "run") {
  const kept = await runs.recall(run);
  const keeper = runs.keeper(run, kept);
  keeper.note(events, cursor);
  keeper.flush(true);
  return keeper;
}

const recalled = (run = "run", scope = SCOPE): Promise<Kept | null> =>
  new KeptRuns(scope).recall(run);

test("a run is recalled with the position after its events", async () => {
  const events = log("run", 1_000);
  await keep(events, "7");
  const kept = await recalled();
  expect(kept?.cursor).toBe("7");
  expect(kept?.events).toEqual(events);
});

test("a run that goes on is written further, from where it was", async () => {
  const events = log("run", 700);
  await keep(events.slice(0, 300), "3");
  const before = await recalled();
  await keep(events, "7");
  const kept = await recalled();
  expect(kept?.edition).toBe(before?.edition);
  expect(kept?.events).toEqual(events);
});

test("while the page is used a run is written by itself", async () => {
  const events = log("run", 3_000);
  const runs = new KeptRuns(SCOPE);
  runs.keeper("run", null).note(events, "7");
  await vi.waitFor(async () => expect((await recalled())?.events).toEqual(events), 60_000);
});

test("nothing is shown of another user, organization, API or run", async () => {
  await keep(log("run", 1), "7");
  for (const scope of ["https://example.org/ shop bob", "https://example.org/ mill ada", ""])
    expect(await recalled("run", scope)).toBeNull();
  expect(await recalled("other")).toBeNull();
});

test("events of another run under this one's key are not shown", async () => {
  await keep(log("other", 1), "7");
  expect(await recalled()).toBeNull();
});

test("what a reset voids is gone, and what follows it is kept", async () => {
  const keeper = await keep(log("run", 600), "7");
  keeper.drop();
  await vi.waitFor(async () => expect(await recalled()).toBeNull(), 60_000);
  const events = log("run", 2, "again");
  keeper.note(events, "9");
  keeper.flush(true);
  expect((await recalled())?.events).toEqual(events);
});

test("two pages that keep the same run never mix their events", async () => {
  const one = new KeptRuns(SCOPE);
  const two = new KeptRuns(SCOPE);
  const [first, second] = [await one.recall("run"), await two.recall("run")];
  const [early, late] = [one.keeper("run", first), two.keeper("run", second)];
  early.note(log("run", 600, "one"), "7");
  early.flush(true);
  late.note(log("run", 300, "two"), "5");
  late.flush(true);
  expect((await recalled())?.events).toEqual(log("run", 300, "two"));
  early.note(log("run", 601, "one"), "8");
  early.flush(true);
  // Its first parts are gone, so the run counts as not kept.
  expect(await recalled()).toBeNull();
});

test("the newest twenty runs are kept", async () => {
  const runs = new KeptRuns(SCOPE);
  for (let run = 0; run < 22; run++) {
    vi.setSystemTime(Date.now() + 1);
    const keeper = await keep(log(`run-${run}`, 1), "7", runs, `run-${run}`);
    keeper.flush(false);
  }
  const found = [];
  for (let run = 0; run < 22; run++) if (await recalled(`run-${run}`)) found.push(run);
  vi.useRealTimers();
  expect(found).toEqual(Array.from({ length: 20 }, (_, index) => index + 2));
});

test("a run of more than 8 MB is not kept, and no part of it", async () => {
  const events = log("run", 300, "x".repeat(20_000));
  await keep(events, "7");
  expect(await recalled()).not.toBeNull();
  await keep([...events, ...log("run", 300, "x".repeat(20_000))], "8");
  expect(await recalled()).toBeNull();
});

test("a run that was kept long ago is not shown", async () => {
  await keep(log("run", 1), "7");
  vi.setSystemTime(Date.now() + 25 * 3_600_000);
  const found = await recalled();
  vi.useRealTimers();
  expect(found).toBeNull();
});

test("another token forgets all runs, also what is written after it", async () => {
  const runs = new KeptRuns(SCOPE);
  const keeper = await keep(log("run", 1), "7", runs);
  await runs.forget();
  keeper.note(log("run", 2), "8");
  keeper.flush(true);
  expect(await recalled()).toBeNull();
});

test("without a database, or with a newer one, nothing is kept and nothing fails", async () => {
  indexedDB.open("tailrace", 99);
  await keep(log("run", 1), "7");
  expect(await recalled()).toBeNull();
  // @ts-expect-error: a browser without it
  globalThis.indexedDB = undefined;
  const runs = new KeptRuns(SCOPE);
  await keep(log("run", 1), "7", runs);
  expect(await recalled()).toBeNull();
  await runs.forget();
});
