// @vitest-environment jsdom
import { act, StrictMode } from "react";
import { hydrateRoot } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { expect, test, vi } from "vitest";
import { World } from "../../client/test/world.js";
import { TailraceProvider } from "../src/index.js";
import { PausedWorkflows } from "../src/paused-workflows.js";

globalThis.IS_REACT_ACT_ENVIRONMENT = true;

test("a page hydrates without a warning, also when its store has data already", async () => {
  const world = new World();
  const client = world.client();
  const app = (
    <StrictMode>
      <TailraceProvider client={client}>
        <PausedWorkflows />
      </TailraceProvider>
    </StrictMode>
  );
  const element = document.body.appendChild(document.createElement("main"));
  element.innerHTML = renderToString(app);
  client.observe("/api/workflow/paused-stream", { blocks() {}, reset() {}, ended() {} });
  await world.pass(0);
  world.stream.open().send('event: paused.initial\ndata: {"pausedWorkflows":[]}\nid: 1\n\n');
  await world.pass(200);
  const complaint = vi.spyOn(console, "error");
  const root = await act(async () => hydrateRoot(element, app));
  await act(() => world.pass(200));
  expect(element.textContent).toContain("No workflow is paused");
  expect(complaint).not.toHaveBeenCalled();
  await act(async () => root.unmount());
});
