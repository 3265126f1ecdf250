import { beforeEach, expect, test } from "vitest";
import type { TailraceClient } from "../src/types.js";
import { Browser, Notes, note, World } from "./world.js";

const RUN = "execution:1";

let world: World;
let client: TailraceClient;
let notes: Notes;

beforeEach(async () => {
  world = new World();
  client = world.client();
  notes = new Notes();
});

/** Follow a run from a kept position, with the inbox beside it. */
async function resume(): Promise<void> {
  client.observe(RUN, notes, { after: "7" });
  note(client, "paused");
  await world.pass(20);
}

test("a run goes on after a kept position, and the other topics begin anew", async () => {
  await resume();
  const { searchParams } = world.stream.url;
  expect(searchParams.get("topics")).toBe(`${RUN},paused`);
  expect([searchParams.get("since"), searchParams.get("since_topics")]).toEqual(["7", RUN]);
  world.stream.open().topic("paused", "paused.initial", {}, "9");
  world.stream.topic(RUN, "step:started", {}, "10");
  await world.pass(200);
  expect(notes.resets).toEqual(["resumed"]);
  expect(notes.ids).toEqual(["10"]);
  expect(client.position(RUN)).toBe("10");
});

test("the position moves with the stream, also without a block of the run", async () => {
  await resume();
  expect(client.position(RUN)).toBe("7");
  world.stream.open().topic("paused", "paused.initial", {}, "9");
  await world.pass(200);
  expect(client.position(RUN)).toBe("9");
});

test("in an opening a run has no position before all topics have theirs", async () => {
  note(client, RUN);
  note(client, "paused");
  await world.pass(0);
  world.stream.open().topic(RUN, "execution:queued", {}, "9~1");
  await world.pass(200);
  expect(client.position(RUN)).toBeNull();
  world.stream.topic("paused", "paused.initial", {}, "9");
  await world.pass(200);
  expect(client.position(RUN)).toBe("9");
});

test("there is no position while a block has not reached the page", async () => {
  await resume();
  world.stream.open().topic(RUN, "step:started", {}, "10");
  await world.pass(1);
  expect(client.position(RUN)).toBeNull();
  await world.pass(200);
  expect(client.position(RUN)).toBe("10");
});

test("a reset by the server voids what was before the position, for good", async () => {
  await resume();
  world.stream.open().send('event: stream:reset\ndata: {"reason":"recreated"}\n\n');
  world.stream.topic(RUN, "execution:queued", {}, "2");
  await world.pass(200);
  expect(notes.resets).toEqual(["resumed", "recreated"]);
  expect(notes.ids).toEqual(["2"]);
  world.stream.cut();
  await world.pass(30_000);
  expect(world.stream.lastEventId).toBe("2");
});

test("a cut before the first block resumes from the same position", async () => {
  await resume();
  world.stream.open().cut();
  await world.pass(30_000);
  expect(world.stream.url.searchParams.get("since")).toBe("7");
  expect(notes.resets).toEqual(["resumed"]);
});

test("a subscriber that has not the earlier blocks makes the run begin anew, for both", async () => {
  await resume();
  world.stream.open().topic("paused", "paused.initial", {}, "9");
  world.stream.topic(RUN, "step:started", {}, "10");
  await world.pass(200);
  const [late] = note(client, RUN);
  world.stream.topic(RUN, "step:completed", {}, "11");
  await world.pass(60);
  const { searchParams } = world.stream.url;
  expect([searchParams.get("since"), searchParams.get("since_topics")]).toEqual(["11", "paused"]);
  world.stream.open().topic(RUN, "execution:queued", {}, "11~1");
  world.stream.topic(RUN, "step:started", {}, "11");
  await world.pass(200);
  expect(late.resets).toEqual(["opened"]);
  expect(late.ids).toEqual(["11~1", "11"]);
  expect(notes.resets).toEqual(["resumed", "opened"]);
  expect(notes.ids).toEqual(late.ids);
});

test("a position is of one stream, so beside an open one the run gets another", async () => {
  note(client, "paused");
  await world.pass(0);
  world.stream.open().topic("paused", "paused.initial", {}, "9");
  await world.pass(200);
  client.observe(RUN, notes, { after: "7" });
  await world.pass(60);
  expect(world.live).toHaveLength(2);
  expect(world.stream.topics).toEqual([RUN]);
  expect(world.stream.url.searchParams.get("since")).toBe("7");
});

test("polled blocks have no position", async () => {
  world.serve = (connection) => {
    if (connection.headers.get("Accept") === "text/event-stream") connection.reject(503);
    else
      connection.json({ logs: [{ id: "3", type: "execution:queued", timestamp: "", data: {} }] });
  };
  await resume();
  await world.pass(100_000);
  expect(notes.resets.at(-1)).toBe("polled");
  expect(client.position(RUN)).toBeNull();
});

test("the next tab that leads goes on after what it has", async () => {
  const browser = new Browser();
  const [one, two] = [browser.tab(), browser.tab()];
  const open = (tab: typeof one) =>
    world.client({ sharing: "locks" }, { shared: tab, host: tab.host(world) });
  open(one).observe(RUN, new Notes(), { after: "7" });
  await world.pass(100);
  open(two).observe(RUN, notes, { after: "7" });
  await world.pass(1_000);
  expect(world.live).toHaveLength(1);
  world.stream.open().topic(RUN, "step:started", {}, "10");
  await world.pass(100);
  one.kill();
  await world.pass(1_000);
  expect(world.stream.lastEventId).toBe("10");
  world.stream.open().topic(RUN, "step:completed", {}, "11");
  await world.pass(100);
  expect(notes.ids).toEqual(["10", "11"]);
  expect(new Set(notes.resets)).toEqual(new Set(["resumed"]));
});

test.each([
  ["runs", true],
  ["runs:execution-report", true],
  [RUN, false],
])("a late subscriber of %s after many changes costs a snapshot: %s", async (source, isAnew) => {
  note(client, source);
  await world.pass(0);
  world.stream.open();
  for (let id = 1; id <= 1_500; id++) world.stream.topic(source, "run:changed", {}, `${id}`);
  await world.pass(200);
  const [late] = note(client, source);
  await world.pass(300);
  expect(world.streams).toHaveLength(isAnew ? 2 : 1);
  expect(late.ids).toHaveLength(isAnew ? 0 : 1_500);
});
