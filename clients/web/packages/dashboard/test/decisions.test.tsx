// @vitest-environment jsdom
import { createClient } from "@tailrace/client";
import { TailraceProvider } from "@tailrace/react";
import { beforeEach, expect, test, vi } from "vitest";
import { saveSession } from "../src/data/session.ts";
import { DecisionForm } from "../src/run/DecisionForm.tsx";
import { EMPTY_RUN, type RunState } from "../src/run/fold.ts";
import { type Answer, click, find, refuse, render, serve, shown } from "./browser.tsx";

const following = createClient({ baseUrl: "http://localhost", fetch: () => new Promise(() => {}) });
const timestamp = "2026-01-01T09:12:00.000Z";
const WON = {
  logs: [
    {
      id: "1",
      type: "command:requested",
      data: { node_id: "approve", actor: "bob", decision: "rejected" },
      timestamp,
    },
  ],
};
const ACCEPTED = { command_id: "c1", event_id: "1" };

let number = 0;
beforeEach(() => {
  number += 1;
});

function form(isOver = false, run?: RunState) {
  return (
    <TailraceProvider client={following}>
      <DecisionForm
        executionId={`run-${number}`}
        nodeId="approve"
        schema={null}
        isOver={isOver}
        run={run}
      />
    </TailraceProvider>
  );
}

/** Answer the first POSTs with these, and each GET with the log of a lost race. */
function decided(...answers: Answer[]) {
  let sent = 0;
  return serve((asked) => (asked.method === "POST" ? answers[sent++]?.(asked) : WON));
}

const lost = () => {
  throw new TypeError("Failed to fetch");
};
/** Let everything be shown that has its answer. */
async function turn(): Promise<void> {
  for (const next of [setTimeout, requestAnimationFrame, setTimeout])
    await new Promise<unknown>((resolve) => next(resolve));
}
const done = () =>
  [...document.querySelectorAll(".receipt [data-done]")].map((each) => each.textContent);

test("a decision whose answer was lost is sent again with the same key", async () => {
  const asked = decided(lost, () => ACCEPTED);
  await render(form());
  await click("Approve");
  await shown("p", "kept in this tab");
  expect(done()).toEqual([]);
  dispatchEvent(new Event("online"));
  await shown("li[data-done]", "in the log");
  expect(new Set(asked.map(({ key }) => key)).size).toBe(1);
  expect(asked).toHaveLength(2);
});

test("a decision that was stopped keeps its key; another one has a new one", async () => {
  const asked = decided(lost, lost, () => ACCEPTED);
  await render(form());
  for (const button of ["Approve", "Approve", "Reject"]) {
    await click(button);
    if (button === "Approve") await click("Stop sending");
  }
  await shown("li[data-done]", "in the log");
  const [first, second, third] = asked.map(({ key }) => key);
  expect(first).toBe(second);
  expect(third).not.toBe(first);
  dispatchEvent(new Event("online"));
  expect(asked).toHaveLength(3);
});

test("a decision that is stopped and made again is sent by one loop", async () => {
  const asked = decided(lost, () => new Promise(() => {}));
  await render(form());
  await click("Approve");
  await click("Stop sending");
  await click("Approve");
  await shown("li[data-done]", "sent");
  dispatchEvent(new Event("online"));
  await turn();
  expect(asked).toHaveLength(2);
});

test("a try of a decision that was stopped changes nothing of the one that is made again", async () => {
  let fail = () => {};
  const held = () =>
    new Promise((_, reject) => {
      fail = () => reject(new TypeError("Failed to fetch"));
    });
  const asked = decided(lost, held, () => ACCEPTED);
  await render(form());
  await click("Approve");
  await shown("button", "Stop sending");
  dispatchEvent(new Event("online"));
  await vi.waitFor(() => expect(asked).toHaveLength(2));
  await click("Stop sending");
  await click("Approve");
  await shown("li[data-done]", "in the log");
  fail();
  await turn();
  expect(done()).toEqual(["sent", "in the log"]);
});

test("a decision is sent again as its user, and another user's is another decision", async () => {
  const asked = decided(lost, lost, () => ACCEPTED);
  saveSession({ token: "ada", organization: "" });
  await render(form());
  await click("Approve");
  await shown("button", "Stop sending");
  saveSession({ token: "bob", organization: "" });
  dispatchEvent(new Event("online"));
  await vi.waitFor(() => expect(asked).toHaveLength(2));
  await turn();
  await click("Stop sending");
  await click("Approve");
  await shown("li[data-done]", "in the log");
  expect(asked.map(({ authorization }) => authorization)).toEqual([
    "Bearer ada",
    "Bearer ada",
    "Bearer bob",
  ]);
  const [first, second, third] = asked.map(({ key }) => key);
  expect(second).toBe(first);
  expect(third).not.toBe(first);
  saveSession({ token: "", organization: "" });
});

test("a lost race names the winner", async () => {
  decided(() => refuse(409, "the step 'approve' already has its decision"));
  await render(form());
  await click("Approve");
  await shown("p", "bob was first: rejected at");
  expect(find(".receipt")).toBeUndefined();
});

test("a lost race is told also if the winner cannot be read", async () => {
  serve(({ method }) => (method === "POST" ? refuse(409, "it has its decision") : lost()));
  await render(form());
  await click("Approve");
  await shown(".failure", "it has its decision");
});

test("nothing is shown as done that the API has not answered", async () => {
  decided(() => new Promise(() => {}));
  await render(form());
  await click("Approve");
  await shown(".receipt");
  expect(done()).toEqual(["sent"]);
  // The entry left the list, for whatever reason.
  await render(form(true));
  expect(done()).toEqual(["sent"]);
});

test("a decision is applied when the log says so of its command", async () => {
  decided(() => ACCEPTED);
  const of = (id: string, applied: boolean): RunState => {
    const command = { command: "resolve", node_id: "approve", decision: "approved" } as const;
    const made = { ...command, command_id: id, actor: "ada", at: timestamp, applied };
    return { ...EMPTY_RUN, commands: new Map([[id, made]]) };
  };
  await render(form(false, of("c1", false)));
  await click("Approve");
  await shown("li[data-done]", "in the log");
  await render(form(true, of("c2", true)));
  expect(done()).toEqual(["sent", "in the log"]);
  await render(form(true, of("c1", true)));
  expect(done()).toEqual(["sent", "in the log", "applied"]);
  vi.unstubAllGlobals();
});
