// @vitest-environment jsdom
import { expect, test } from "vitest";
import DeadLetters from "../src/pages/DeadLetters.tsx";
import Schedules from "../src/pages/Schedules.tsx";
import { click, ME, render, serve, shown } from "./browser.tsx";

const at = "2026-01-01T00:00:00.000Z";
const job = (id: number) => ({ id, queue: "q", actor: `job-${id}`, error: "", died_at: at });
const schedule = (id: string) => ({ id, workflow_id: "flow", cron: "@daily", created_at: at });

test("dead letters go on behind the first page, and all are replayed only when confirmed", async () => {
  const asked = serve(({ method, path }) => {
    if (method === "POST") return { replayed: 2 };
    return path.includes("after=1")
      ? { dead_letters: [job(2)], after: null }
      : { dead_letters: [job(1)], after: 1 };
  });
  await render(<DeadLetters />);
  await shown("h1", "1 job and more");
  await click("More");
  await shown("td", "job-2");
  await shown("h1", "2 jobs");
  await click("Replay all");
  await shown("dialog", "not shown here");
  expect(asked.some(({ method }) => method === "POST")).toBe(false);
  await click("Replay them");
  await shown("h1", "2 jobs");
  expect(asked.filter(({ method }) => method === "POST")).toHaveLength(1);
});

test("schedules go on behind the first page, and are deleted only when confirmed", async () => {
  const asked = serve(({ method, path }) => {
    if (method === "DELETE") return null;
    if (path.includes("/me")) return ME;
    return path.includes("cursor=b")
      ? { schedules: [schedule("late")], cursor: null }
      : { schedules: [schedule("early")], cursor: "b" };
  });
  await render(<Schedules />);
  await click("More");
  await shown("td", "late");
  await click("Delete late");
  await shown("dialog", "It starts no more runs");
  expect(asked.some(({ method }) => method === "DELETE")).toBe(false);
  await click("Delete it");
  expect(asked.find(({ method }) => method === "DELETE")?.path).toBe("/api/v1/schedules/late");
});
