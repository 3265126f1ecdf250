import { renderToString } from "react-dom/server";
import { expect, test } from "vitest";

test("all modules are imported and rendered where there is no window", async () => {
  expect(typeof window).toBe("undefined");
  const { useConnection, useInbox } = await import("../src/index.js");
  const { PausedWorkflows } = await import("../src/paused-workflows.js");
  const { RealTimeFeedback } = await import("../src/merchant-feed.js");
  const { useExecutionStream } = await import("../src/execution.js");
  const { useMultiplePipelineState, useSSEConnectionState } = await import("../src/pipelines.js");
  await import("../src/flow-execution.js");
  await import("../src/elements.js");
  function All() {
    const statuses = useMultiplePipelineState(["a"]);
    const { status } = useExecutionStream(null, "token", "org");
    return [
      useConnection().state,
      useInbox().entries.length,
      status,
      useSSEConnectionState(),
      Object.keys(statuses).length,
    ].join();
  }
  expect(renderToString(<All />)).toBe("disconnected,0,disconnected,disconnected,0");
  expect(renderToString(<PausedWorkflows />)).toContain("Loading");
  expect(renderToString(<RealTimeFeedback />)).toContain("Reconnecting");
});
