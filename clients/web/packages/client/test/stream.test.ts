import { expect, test, vi } from "vitest";
import { note, World } from "./world.js";

const RETRY = "retry: 200\n";

/** A world with one subscriber of `paused`, live at id 1. */
async function live() {
  const world = new World();
  const client = world.client();
  const [notes, stop] = note(client, "paused");
  await world.pass(0);
  world.stream.open().send(RETRY);
  world.stream.topic("paused", "paused.initial", { pausedWorkflows: [] }, "1");
  await world.pass(50);
  return { world, client, notes, stop };
}

test("a cut stream goes on after its last id", async () => {
  const { world, notes } = await live();
  world.stream.topic("paused", "workflow.paused", { executionId: "e" }, "2");
  await world.pass(50);
  world.stream.cut();
  await world.pass(200);
  expect(world.live).toHaveLength(1);
  expect(world.stream.lastEventId).toBe("2");
  world.stream.open().topic("paused", "workflow.paused", { executionId: "f" }, "3");
  await world.pass(50);
  expect(notes.ids).toEqual(["1", "2", "3"]);
  expect(notes.resets).toEqual(["opened"]);
});

test("a block cut before its end is received again, and once", async () => {
  const { world, notes } = await live();
  world.stream.send('event: paused\ndata: {"topic":"paused","event":"x","data":1}\nid: 2\n');
  await world.pass(10);
  world.stream.cut();
  await world.pass(200);
  expect(world.stream.lastEventId).toBe("1");
  world.stream.open().topic("paused", "x", 1, "2");
  await world.pass(50);
  expect(notes.ids).toEqual(["1", "2"]);
});

test("after a cut behind a block with only an id the stream resumes there", async () => {
  const { world } = await live();
  world.stream.send("id: 7\n\n");
  await world.pass(10);
  world.stream.cut();
  await world.pass(200);
  expect(world.stream.lastEventId).toBe("7");
});

test("two cuts in a row before any event keep the id", async () => {
  const { world } = await live();
  for (let cut = 0; cut < 2; cut++) {
    world.stream.cut();
    await world.pass(30_000);
    expect(world.stream.lastEventId).toBe("1");
    world.stream.open();
    await world.pass(10);
  }
});

test("one subscription has never two live streams", async () => {
  const { world } = await live();
  for (let round = 0; round < 20; round++) {
    if (round % 3 === 0) world.stream.cut();
    else if (round % 3 === 1) world.stream.open().send(": hi\n");
    else world.stream.end();
    await world.pass(150);
    expect(world.live.length).toBeLessThanOrEqual(1);
  }
});

test("leaving in the back-off opens nothing any more", async () => {
  const { world, stop } = await live();
  world.stream.cut();
  await world.pass(50);
  stop();
  const before = world.streams.length;
  await world.pass(120_000);
  expect(world.streams).toHaveLength(before);
  expect(world.isIdle).toBe(true);
});

test("a thousand clients come back spread over the delay", async () => {
  let seed = 1;
  const at: number[] = [];
  for (let each = 0; each < 1000; each++) {
    const world = new World();
    world.chance = () => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed / 2_147_483_647;
    };
    world.serve = (connection) => {
      at.push(world.time - 1_000_000);
      if (world.streams.length === 1) connection.open().end();
    };
    note(world.client(), "paused");
    await world.pass(0);
    await world.pass(1_000);
  }
  const retries = at.filter((time) => time > 0);
  expect(retries.length).toBeGreaterThan(950);
  const tenths = new Array(10).fill(0);
  for (const time of retries) tenths[Math.min(9, Math.floor(time / 100))] += 1;
  for (const count of tenths) {
    expect(count).toBeGreaterThan(50);
    expect(count).toBeLessThan(170);
  }
});

test("a server that answers, says retry and ends is asked ever more rarely", async () => {
  const world = new World();
  world.serve = (connection) => {
    if (connection.headers.get("Accept") !== "text/event-stream") return connection.json({});
    connection.open().send("retry: 1\n");
    connection.send(
      'event: stream:refused\ndata: {"reason":"draining","retry_ms":1,"detail":""}\n\n',
    );
    connection.end();
  };
  const client = world.client();
  note(client, "feed");
  await world.pass(60_000);
  expect(world.streams.length).toBeLessThan(12);
  expect(client.connection.get()).toMatchObject({ state: "error", detail: "polling" });
});

test("204 ends a source for good, also for who subscribes later", async () => {
  const world = new World();
  const client = world.client();
  const path = "/api/v1/sse/executions/e1/stream";
  const [notes, stop] = note(client, path);
  await world.pass(0);
  world.stream.reject(204);
  await world.pass(120_000);
  expect(notes.ends).toEqual([null]);
  stop();
  await world.pass(10_000);
  const [again] = note(client, path);
  await world.pass(120_000);
  expect(again.ends).toEqual([null]);
  expect(world.streams).toHaveLength(1);
});

test("a run that has ended needs no stream, and shows itself to later subscribers", async () => {
  const world = new World();
  const client = world.client();
  const store = client.run("e1");
  const stop = store.subscribe(() => {});
  await world.pass(0);
  const timestamp = "2026-11-29T18:00:00.000Z";
  const event = (type: string, data: object, id: string) =>
    world.stream.topic("execution:e1", type, { type, data, timestamp }, id);
  world.stream.open();
  event("execution:queued", { execution_id: "e1", workflow_id: "w", input: 1 }, "1");
  event("execution:completed", { execution_id: "e1", execution_time_ms: 5, output: 2 }, "2");
  await world.pass(5_000);
  expect(store.get()).toMatchObject({ phase: "ended", state: { status: "completed", output: 2 } });
  expect(world.live).toHaveLength(0);
  stop();
  await world.pass(5_000);
  store.subscribe(() => {});
  await world.pass(5_000);
  expect(store.get().state?.output).toBe(2);
  expect(world.streams).toHaveLength(1);
});

test("403 and 404 stop; 429 and 503 are tried again after Retry-After", async () => {
  for (const status of [403, 404]) {
    const world = new World();
    const [notes] = note(world.client(), "/api/v1/sse/executions/e1/stream");
    await world.pass(0);
    world.stream.reject(status);
    await world.pass(120_000);
    expect(world.streams).toHaveLength(1);
    expect(notes.ends).toEqual([`the server answers ${status}`]);
  }
  for (const status of [408, 425, 429, 500, 503]) {
    const world = new World();
    note(world.client(), "feed");
    await world.pass(0);
    world.stream.reject(status, { "Retry-After": "7" });
    await world.pass(6_900);
    expect(world.streams).toHaveLength(1);
    await world.pass(200);
    expect(world.streams).toHaveLength(2);
  }
});

test("a refusal without a delay ends the source with its reason", async () => {
  const world = new World();
  const [notes] = note(world.client(), "feed");
  await world.pass(0);
  world.stream
    .open()
    .send('event: stream:refused\ndata: {"reason":"too_many","retry_ms":null,"detail":"33"}\n\n');
  world.stream.end();
  await world.pass(120_000);
  expect(notes.ends).toEqual(["too_many: 33"]);
  expect(world.streams).toHaveLength(1);
});

test("after a 401 there is one refresh, and the stream resumes after the same id", async () => {
  const world = new World();
  let tokens = 0;
  const client = world.client({ token: () => `token-${++tokens}` });
  const [notes] = note(client, "paused");
  await world.pass(0);
  expect(world.stream.headers.get("Authorization")).toBe("Bearer token-1");
  world.stream.open().topic("paused", "x", 1, "1");
  await world.pass(10);
  world.stream.send("event: stream:auth-expired\ndata: {}\n\n");
  await world.pass(10);
  expect(tokens).toBe(2);
  expect(world.stream.headers.get("Authorization")).toBe("Bearer token-2");
  expect(world.stream.lastEventId).toBe("1");
  world.stream.open().topic("paused", "x", 2, "2");
  await world.pass(50);
  expect(notes.ids).toEqual(["1", "2"]);
});

test("a refreshed token that is refused as well makes no loop", async () => {
  const world = new World();
  let tokens = 0;
  const client = world.client({ token: () => `token-${++tokens}` });
  world.serve = (connection) => connection.reject(401);
  note(client, "paused");
  await world.pass(600_000);
  expect(world.streams).toHaveLength(2);
  expect(tokens).toBe(2);
  expect(client.connection.get()).toMatchObject({ state: "disconnected", detail: "unauthorized" });
});

test("requests that fail together share one refresh", async () => {
  const world = new World();
  let tokens = 0;
  const client = world.client({ token: async () => `token-${++tokens}` });
  world.serve = (connection) =>
    connection.headers.get("Authorization") === "Bearer token-1"
      ? connection.reject(401)
      : connection.json({ workflows: [] });
  const answers = await Promise.all([1, 2, 3].map(() => client.request("GET /api/v1/workflows")));
  expect(answers).toHaveLength(3);
  expect(tokens).toBe(2);
});

test("commands have keys of their own, also on a page that came without HTTPS", async () => {
  const { getRandomValues } = crypto;
  vi.stubGlobal("crypto", { getRandomValues: getRandomValues.bind(crypto) });
  const world = new World();
  world.serve = (connection) => connection.json({});
  const route = "POST /api/v1/executions/{execution_id}/pause";
  for (let each = 0; each < 2; each++)
    await world.client().request(route, { path: { execution_id: "e" } });
  vi.unstubAllGlobals();
  const keys = world.connections.map(({ headers }) => headers.get("Idempotency-Key"));
  expect(new Set(keys).size).toBe(2);
  expect(keys[0]).toMatch(/^\d+-\d+-\d+-\d+$/);
});

test("a half-open connection is dead a second after the timeout", async () => {
  const { world, client } = await live();
  await world.pass(44_000);
  world.stream.send(": heartbeat\n");
  await world.pass(44_900);
  expect(world.streams).toHaveLength(1);
  await world.pass(1_100);
  expect(world.streams[0]?.isAborted).toBe(true);
  expect(world.live).toHaveLength(1);
  expect(world.stream.lastEventId).toBe("1");
  expect(client.connection.get().cause).toContain("no byte for 45 s");
});

test("a reconnect shows only after 1.5 seconds", async () => {
  const { world, client } = await live();
  expect(client.connection.get().state).toBe("connected");
  world.stream.cut();
  await world.pass(1_400);
  expect(client.connection.get().state).toBe("connected");
  await world.pass(200);
  expect(client.connection.get().state).toBe("reconnecting");
  world.stream.open().send(": back\n");
  await world.pass(20);
  expect(client.connection.get().state).toBe("connected");
});

test("a restarted server is live again right after its retry", async () => {
  const { world } = await live();
  world.stream.end();
  await world.pass(199);
  expect(world.live).toHaveLength(0);
  await world.pass(2);
  expect(world.live).toHaveLength(1);
});

test("fifty components that mount in one tick open one connection", async () => {
  const world = new World();
  const client = world.client();
  for (let each = 0; each < 50; each++)
    note(client, each % 2 ? "paused" : `execution:e${each % 20}`);
  await world.pass(1_000);
  expect(world.streams).toHaveLength(1);
  expect(world.stream.topics).toHaveLength(11);
});

test("one of two subscribers leaves, and the other stays live", async () => {
  const { world, client, notes } = await live();
  const [other, leave] = note(client, "paused");
  await world.pass(100);
  expect(other.ids).toEqual(["1"]);
  leave();
  await world.pass(10_000);
  world.stream.topic("paused", "x", 1, "2");
  await world.pass(50);
  expect(notes.ids).toEqual(["1", "2"]);
  expect(other.ids).toEqual(["1"]);
  expect(world.streams).toHaveLength(1);
});

test("ids that change ten times in 100 ms cost one reconnect, which keeps the place", async () => {
  const { world, client } = await live();
  let stop = () => {};
  for (let change = 0; change < 10; change++) {
    stop();
    [, stop] = note(client, `execution:e${change}`);
    await world.pass(10);
  }
  await world.pass(300);
  expect(world.streams).toHaveLength(2);
  expect(world.stream.topics).toEqual(["execution:e9", "paused"]);
  expect(world.stream.url.searchParams.get("since")).toBe("1");
  expect(world.stream.url.searchParams.get("since_topics")).toBe("paused");
});

test("a new topic begins with its snapshot while the others go on", async () => {
  const { world, client, notes } = await live();
  const [runs] = note(client, "runs");
  await world.pass(100);
  world.stream.open().topic("paused", "x", 1, "2~0");
  world.stream.topic("runs", "runs.initial", { runs: [] }, "3");
  await world.pass(50);
  expect(notes.ids).toEqual(["1", "2~0"]);
  expect(notes.resets).toEqual(["opened"]);
  expect(runs.ids).toEqual(["3"]);
});

test("topics that change in an opening begin again, those that were open go on", async () => {
  const { world, client, notes } = await live();
  note(client, "execution:e1");
  await world.pass(100);
  world.stream.open().topic("execution:e1", "x", 1, "1~0.5.0");
  await world.pass(20);
  const [runs] = note(client, "runs");
  await world.pass(100);
  expect(world.stream.url.searchParams.get("since")).toBe("1");
  expect(world.stream.url.searchParams.get("since_topics")).toBe("paused");
  world.stream.open().topic("execution:e1", "x", 1, "1~0.5.0");
  await world.pass(200);
  expect(notes.resets).toEqual(["opened"]);
  expect(runs.resets).toEqual(["opened"]);
});

test("more topics than a stream may have are split, visible ones first", async () => {
  const world = new World();
  const client = world.client({ maxTopics: 3 });
  const observer = { blocks() {}, reset() {}, ended() {} };
  for (let each = 0; each < 7; each++)
    client.observe(`execution:e${each}`, observer, { visible: each > 3 });
  await world.pass(10);
  expect(world.streams.map((stream) => stream.topics)).toEqual([
    ["execution:e4", "execution:e5", "execution:e6"],
    ["execution:e0", "execution:e1", "execution:e2"],
    ["execution:e3"],
  ]);
});

test("a proxy that buffers is named, and polling takes over until the stream works", async () => {
  const world = new World();
  const client = world.client();
  const store = client.inbox();
  store.subscribe(() => {});
  world.serve = (connection) => {
    if (connection.headers.get("Accept") === "text/event-stream") connection.open();
    else
      connection.json({ pausedWorkflows: [{ executionId: "e", pausedAt: "a", pausedTime: "1" }] });
  };
  await world.pass(40_000);
  expect(client.connection.get()).toMatchObject({
    state: "error",
    detail: "polling",
    transport: "polling",
  });
  expect(client.connection.get().cause).toContain("a proxy seems to buffer");
  expect(store.get().entries).toHaveLength(1);
  world.serve = (connection) => {
    connection.open().topic("paused", "paused.initial", { pausedWorkflows: [] }, "5");
  };
  await world.pass(60_000);
  expect(client.connection.get()).toMatchObject({ state: "connected", detail: null });
  expect(world.stream.lastEventId).toBe("");
  expect(store.get().entries).toHaveLength(0);
});

test("an answer to a poll that comes after the stream's events is dropped", async () => {
  const world = new World();
  const client = world.client();
  const [notes] = note(client, "paused");
  world.serve = (connection) => {
    if (connection.headers.get("Accept") === "text/event-stream") connection.reject(503);
  };
  await world.pass(60_000);
  const poll = world.connections.filter((each) => !world.streams.includes(each)).at(-1);
  world.serve = (connection) => {
    connection.open().topic("paused", "paused.initial", { pausedWorkflows: ["new"] }, "9");
  };
  while (!world.live.length) await world.pass(1_000);
  poll?.json({ pausedWorkflows: ["old"] });
  await world.pass(1_000);
  expect(notes.current.map((block) => block.data.pausedWorkflows)).toEqual([["new"]]);
});

test("a reset rebuilds: nothing of before is left", async () => {
  const { world, client } = await live();
  const store = client.inbox();
  store.subscribe(() => {});
  const entry = (executionId: string) => ({ executionId, pausedAt: "a", pausedTime: "1" });
  world.stream.topic("paused", "workflow.paused", entry("old"), "2");
  await world.pass(50);
  expect(store.get().entries.map((each) => each.executionId)).toEqual(["old"]);
  world.stream.send('event: stream:reset\ndata: {"reason":"expired","from":null}\nid: 8\n\n');
  world.stream.topic("paused", "paused.initial", { pausedWorkflows: [entry("new")] }, "9");
  await world.pass(50);
  expect(store.get().entries.map((each) => each.executionId)).toEqual(["new"]);
});

test("a snapshot is shown at its edge, or after 100 ms, but not piece by piece", async () => {
  const world = new World();
  const client = world.client();
  const [notes] = note(client, "execution:e1");
  await world.pass(0);
  world.stream.open();
  for (let event = 0; event < 4; event++) {
    world.stream.topic("execution:e1", "x", event, `1~0.${event}.0`);
    await world.pass(20);
  }
  expect(notes.calls).toBe(0);
  world.stream.topic("execution:e1", "x", 4, "2");
  await world.pass(20);
  expect(notes.calls).toBe(1);
  expect(notes.all).toHaveLength(5);
});

test("events reach subscribers once per frame", async () => {
  const { world, notes } = await live();
  const before = notes.calls;
  for (let event = 2; event < 100; event++) world.stream.topic("paused", "x", event, `${event}`);
  await world.pass(20);
  expect(notes.calls).toBe(before + 1);
});

test("a hundred thousand events in ten seconds keep no more than the newest", async () => {
  const world = new World();
  const client = world.client({ maxEvents: 1_000 });
  const store = client.run("e1");
  let most = 0;
  store.subscribe(() => {
    most = Math.max(most, store.get().events.length);
  });
  const feed = client.feed();
  feed.subscribe(() => {});
  await world.pass(0);
  world.stream.open();
  const timestamp = "2026-11-29T18:00:00.000Z";
  const data = { node_id: "a", node_type: "log", level: "info", message: "x" };
  const log = JSON.stringify({
    topic: "execution:e1",
    event: "step:log",
    data: { type: "step:log", data, timestamp },
  });
  for (let second = 0; second < 100; second++) {
    let text = "";
    for (let event = 0; event < 1_000; event++)
      text += `event: execution:e1\ndata: ${log}\nid: ${second * 1_000 + event}\n\n`;
    world.stream.send(text);
    world.stream.topic("feed", "stage", { type: "stage", poId: `${second}` }, "");
    await world.pass(100);
  }
  expect(store.get().dropped + store.get().events.length).toBe(100_000);
  expect(most).toBe(1_000);
  expect(feed.get().events).toHaveLength(100);
  // A late subscriber, for whom the first events are gone, gets them from the server.
  const [late] = note(client, "execution:e1");
  await world.pass(100);
  expect(world.streams).toHaveLength(2);
  expect(world.stream.url.searchParams.get("since_topics")).toBe("feed");
  world.stream.open().topic("execution:e1", "step:log", { timestamp, data }, "1");
  await world.pass(200);
  expect(late.ids).toEqual(["1"]);
});

test("disconnect closes the stream until reconnect", async () => {
  const { world, client } = await live();
  client.disconnect();
  await world.pass(120_000);
  expect(world.live).toHaveLength(0);
  expect(client.connection.get()).toMatchObject({ state: "disconnected", detail: "manual" });
  client.reconnect();
  await world.pass(10);
  expect(world.live).toHaveLength(1);
  expect(world.stream.lastEventId).toBe("1");
});

test("the package is imported where there is no window", async () => {
  expect(typeof window).toBe("undefined");
  const { createClient } = await import("../src/index.js");
  const client = createClient();
  expect(client.connection.get().state).toBe("disconnected");
  expect(client.run("e1").get().phase).toBe("loading");
});

test("of a list a thousand changes are kept; then a later subscriber begins with a snapshot", async () => {
  const { world, client, notes } = await live();
  const change = (id: number) => world.stream.topic("paused", "workflow.resumed", {}, `${id}`);
  for (let id = 2; id <= 1_000; id++) change(id);
  await world.pass(50);
  const [early] = note(client, "paused");
  await world.pass(100);
  expect(early.ids).toHaveLength(1_000);
  expect(world.streams).toHaveLength(1);
  for (let id = 1_001; id <= 1_100; id++) change(id);
  await world.pass(50);
  const [late] = note(client, "paused");
  await world.pass(100);
  expect(world.streams).toHaveLength(2);
  world.stream.open().topic("paused", "paused.initial", {}, "2000");
  await world.pass(100);
  for (const each of [notes, early, late]) expect(each.ids).toEqual(["2000"]);
});
