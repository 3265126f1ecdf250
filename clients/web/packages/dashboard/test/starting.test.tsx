// @vitest-environment jsdom
import { expect, test } from "vitest";
import { StartButton } from "../src/pages/starting.tsx";
import { EMPTY_RUN } from "../src/run/fold.ts";
import { RerunSheet } from "../src/run/RerunSheet.tsx";
import { click, find, ME, refuse, render, serve, shown } from "./browser.tsx";

/** Answer for a workflow whose definition is gone. */
function withoutDefinition() {
  serve(({ path }) => {
    if (path.includes("/me")) return ME;
    if (path.includes("/versions")) return { versions: [] };
    if (path.includes("/workflows/gone")) return refuse(404, "no such version");
    return { workflows: [], cursor: null };
  });
}

test("a run is not offered with a form of an unknown schema", async () => {
  withoutDefinition();
  await render(<StartButton workflow="gone">Start</StartButton>);
  await click("Start");
  await shown(".failure", "no such version");
  expect(find("button", "Start the run")).toBeUndefined();
});

test("a rerun is not offered with a form of an unknown schema", async () => {
  withoutDefinition();
  const run = { ...EMPTY_RUN, execution_id: "e1", workflow_id: "gone", version: 1 };
  await render(<RerunSheet run={run} graph={null} onClose={() => {}} />);
  (await shown("input[type=checkbox]")).click();
  await shown(".failure", "no such version");
  expect(find("button", "Run again with this input")).toBeUndefined();
});
