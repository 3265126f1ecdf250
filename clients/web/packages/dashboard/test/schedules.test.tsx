// @vitest-environment jsdom
import { expect, test } from "vitest";
import Schedules from "../src/pages/Schedules.tsx";
import { click, ME, render, serve, shown } from "./browser.tsx";

const SCHEDULE = {
  id: "early",
  workflow_id: "charge",
  cron: "@daily",
  time_zone: null,
  // The API masks what the schema marks as sensitive.
  input: { card: "***" },
  created_at: "2026-01-01T00:00:00.000Z",
  next_at: null,
};

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
