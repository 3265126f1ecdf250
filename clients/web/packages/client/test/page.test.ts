// @vitest-environment jsdom
import { afterEach, beforeEach, expect, test } from "vitest";
import type { TailraceClient } from "../src/types.js";
import { Browser, type Notes, note, World } from "./world.js";

let world: World;
let client: TailraceClient;
let notes: Notes;
let visibility: DocumentVisibilityState;

function show(state: DocumentVisibilityState): void {
  visibility = state;
  document.dispatchEvent(new Event("visibilitychange"));
}

beforeEach(async () => {
  visibility = "visible";
  Object.defineProperty(document, "visibilityState", { get: () => visibility, configurable: true });
  world = new World();
  client = world.client();
  [notes] = note(client, "paused");
  await world.pass(0);
  world.stream.open().topic("paused", "x", 1, "1");
  await world.pass(50);
});

afterEach(() => client.close());

const state = () => client.connection.get();

test("a hidden tab gives up its stream and attempts nothing until it is visible", async () => {
  show("hidden");
  await world.pass(1_500);
  expect(world.live).toHaveLength(0);
  expect(state()).toMatchObject({ state: "disconnected", detail: "hidden" });
  await world.pass(3_600_000);
  expect(world.streams).toHaveLength(1);
  show("visible");
  await world.pass(10);
  expect(world.live).toHaveLength(1);
  expect(world.stream.lastEventId).toBe("1");
});

test("visibility that flaps twenty times a second costs nothing", async () => {
  for (let flap = 0; flap < 200; flap++) {
    show(flap % 2 ? "visible" : "hidden");
    await world.pass(25);
  }
  expect(world.streams).toHaveLength(1);
  expect(world.live).toHaveLength(1);
});

test("flapping while the server is down starts no attempt while hidden, and no loop", async () => {
  world.serve = (connection) => {
    expect(visibility).toBe("visible");
    connection.reject(503);
  };
  world.stream.cut();
  for (let flap = 0; flap < 400; flap++) {
    show(flap % 2 ? "visible" : "hidden");
    await world.pass(25);
  }
  show("visible");
  expect(world.streams.length).toBeLessThan(8);
});

test("polling stops while the tab is hidden", async () => {
  world.serve = (connection) => {
    if (connection.headers.get("Accept") === "text/event-stream") connection.reject(503);
    else connection.json({ pausedWorkflows: [] });
  };
  world.stream.cut();
  await world.pass(100_000);
  expect(state().detail).toBe("polling");
  show("hidden");
  await world.pass(2_000);
  const before = world.connections.length;
  await world.pass(600_000);
  expect(world.connections).toHaveLength(before);
});

test("after a sleep the stream is live within a second", async () => {
  world.sleep(3_600_000);
  await world.pass(900);
  expect(world.live).toHaveLength(1);
  expect(world.streams).toHaveLength(2);
  expect(world.stream.lastEventId).toBe("1");
});

test("a page kept for the way back closes its stream, and resumes it", async () => {
  dispatchEvent(new Event("pagehide"));
  await world.pass(10);
  expect(world.live).toHaveLength(0);
  dispatchEvent(Object.assign(new Event("pageshow"), { persisted: true }));
  await world.pass(10);
  expect(world.live).toHaveLength(1);
  expect(world.stream.lastEventId).toBe("1");
});

test("a frozen page closes its stream, and resumes it when it thaws", async () => {
  document.dispatchEvent(new Event("freeze"));
  await world.pass(10);
  expect(world.live).toHaveLength(0);
  document.dispatchEvent(new Event("resume"));
  await world.pass(10);
  expect(world.live).toHaveLength(1);
});

test("offline, nothing is attempted; online, the stream resumes at once", async () => {
  dispatchEvent(new Event("offline"));
  await world.pass(600_000);
  expect(world.streams).toHaveLength(1);
  expect(state().detail).toBe("offline");
  dispatchEvent(new Event("online"));
  await world.pass(10);
  expect(world.stream.lastEventId).toBe("1");
  world.stream.open().topic("paused", "x", 2, "2");
  await world.pass(50);
  expect(notes.ids).toEqual(["1", "2"]);
});

test("several reasons to pause must all be gone", async () => {
  show("hidden");
  dispatchEvent(new Event("offline"));
  client.disconnect();
  await world.pass(2_000);
  show("visible");
  dispatchEvent(new Event("online"));
  await world.pass(2_000);
  expect(world.live).toHaveLength(0);
  client.reconnect();
  await world.pass(10);
  expect(world.live).toHaveLength(1);
});

test("with a worker, its streams pause while all tabs are offline, and resume at once", async () => {
  client.close();
  world = new World();
  world.serve = (connection) => connection.open().topic("paused", "x", 1, "1");
  const partsOf = new Browser().worker(world);
  const open = async () => {
    const opened = world.client({ sharing: "auto" }, partsOf());
    note(opened, "paused");
    await world.pass(1_000);
    return opened;
  };
  client = await open();
  const other = await open();
  expect(state()).toMatchObject({ state: "connected", sharing: "worker", tabs: 2 });

  dispatchEvent(new Event("offline"));
  await world.pass(600_000);
  expect(world.streams).toHaveLength(1);
  for (const each of [client, other])
    expect(each.connection.get()).toMatchObject({ state: "disconnected", detail: "offline" });
  dispatchEvent(new Event("online"));
  await world.pass(20);
  expect(world.streams).toHaveLength(2);
  expect(world.live).toHaveLength(1);
  expect(world.stream.lastEventId).toBe("1");

  // Tools take the network from one tab, and the worker keeps its own.
  dispatchEvent(new Event("offline"));
  await world.pass(20);
  expect(world.live).toHaveLength(0);
  const third = await open();
  expect(world.live).toHaveLength(1);
  for (const each of [other, third]) each.close();
});

test("a client that cannot start says why, and starts when it is asked again", async () => {
  const broken = world.client({ baseUrl: "http://[" });
  const [, stop] = note(broken, "paused");
  await world.pass(100);
  expect(broken.connection.get()).toMatchObject({ state: "error", detail: null });
  expect(broken.connection.get().cause).toContain("Invalid URL");
  stop();
  Object.assign(broken, { options: { baseUrl: "http://tailrace.test" } });
  note(broken, "paused");
  await world.pass(100);
  expect(world.streams).toHaveLength(2);
  broken.close();
});
