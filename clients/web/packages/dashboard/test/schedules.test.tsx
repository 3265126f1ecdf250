// @vitest-environment jsdom
import { expect, test } from "vitest";
import type { Schedule } from "../src/data/types.ts";
import Schedules from "../src/pages/Schedules.tsx";
import { click, enter, find, ME, render, serve, shown } from "./browser.tsx";

const SCHEDULE = {
  id: "early",
  workflow_id: "charge",
  cron: "@daily",
  time_zone: null,
  // The API masks what the schema marks as sensitive.
  input: { card: "***" },
  created_at: "2026-01-01T00:00:00.000Z",
  next_at: null,
  paused: false,
  last_at: null,
  last_execution_id: null,
} satisfies Schedule;

test("a schedule runs now with the input that is stored, and under its overlap policy", async () => {
  const asked = serve(({ method, path }) => {
    if (method === "POST") return { execution_id: "run" };
    return path.includes("/me") ? ME : { schedules: [SCHEDULE], cursor: null };
  });
  await render(<Schedules />);
  await click("Run early now");
  await shown("button:not(:disabled)", "Run early now");
  const sent = asked.filter(({ method }) => method === "POST");
  expect(sent.map(({ path }) => path)).toEqual(["/api/v1/schedules/early/run"]);
  expect(JSON.stringify(sent)).not.toContain("***");
});

test("a schedule shows its last firing and its overlap, and is paused and resumed", async () => {
  let schedule: Schedule = {
    ...SCHEDULE,
    overlap: "skip",
    last_at: "2026-01-02T00:00:00.000Z",
    last_execution_id: "last-run",
  };
  const asked = serve(({ method, path }) => {
    if (method === "POST") schedule = { ...schedule, paused: path.endsWith("/pause") };
    return path.includes("/me") ? ME : { schedules: [schedule], cursor: null };
  });
  await render(<Schedules />);
  await shown("[href='#/runs/last-run']", "its run");
  await shown("td", "others are skipped");
  await shown("td", "at its interval");
  await click("Pause early");
  await shown("td", "paused");
  await click("Resume early");
  await shown("td", "at its interval");
  const sent = asked.filter(({ method }) => method === "POST");
  expect(sent.map(({ path }) => path)).toEqual([
    "/api/v1/schedules/early/pause",
    "/api/v1/schedules/early/resume",
  ]);
});

test("a backfill lists its firings before it starts their runs", async () => {
  const bodies: { dry_run?: boolean }[] = [];
  serve(({ method, path, body }) => {
    if (path.includes("/me")) return ME;
    if (method !== "POST") return { schedules: [SCHEDULE], cursor: null };
    const { dry_run = false } = body as { dry_run?: boolean };
    bodies.push({ dry_run });
    const scheduled_at = "2026-01-02T00:00:00.000Z";
    const execution_id = dry_run ? null : "made";
    return { dry_run, firings: [{ scheduled_at, execution_id, error: null }] };
  });
  await render(<Schedules />);
  await click("Backfill early");
  await click("List the firings");
  await click("Start 1 run");
  await shown("[href='#/runs/made']", "made");
  expect(bodies).toEqual([{ dry_run: true }, { dry_run: false }]);
});

test("a backfill starts only what was listed for the range that is shown", async () => {
  const sent: { start: string; answer: () => void }[] = [];
  serve(({ method, path, body }) => {
    if (path.includes("/me")) return ME;
    if (method !== "POST") return { schedules: [SCHEDULE], cursor: null };
    const { start, dry_run } = body as { start: string; dry_run: boolean };
    const firings = [{ scheduled_at: start, execution_id: dry_run ? null : "made", error: null }];
    return new Promise((resolve) => {
      sent.push({ start, answer: () => resolve({ dry_run, firings }) });
    });
  });
  await render(<Schedules />);
  await click("Backfill early");
  const from = (await shown("input[type=datetime-local]")) as HTMLInputElement;
  const idle = () => shown(".sheet-foot button:not(:disabled)", "List the firings");
  await click("List the firings");
  enter(from, "2026-01-01T00:00");
  sent[0]?.answer();
  await idle();
  expect(find("button", "Start 1 run")).toBeUndefined();

  await click("List the firings");
  sent[1]?.answer();
  await click("Start 1 run");
  // The answer of a start is shown whatever was typed meanwhile: its runs exist.
  enter(from, "2026-01-02T00:00");
  sent[2]?.answer();
  await shown("[href='#/runs/made']", "made");
  expect(find("button", "Start 1 run")).toBeUndefined();
  expect(sent[2]?.start).toBe(sent[1]?.start);
  expect(sent[1]?.start).not.toBe(sent[0]?.start);
});
