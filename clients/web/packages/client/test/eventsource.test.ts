import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { open } from "../src/eventsource.js";
import { settle, World } from "./world.js";

const BASE = "http://tailrace.test/sub";
const URL_OF_A_RUN = `${BASE}/api/v1/sse/executions/e/stream`;

/** An EventSource that a test moves by hand. */
class FakeSource extends EventTarget {
  static readonly all: FakeSource[] = [];
  readonly url: string;
  readyState = 0;
  onopen: (() => void) | null = null;

  constructor(url: string) {
    super();
    this.url = url;
    FakeSource.all.push(this);
  }

  close(): void {
    this.readyState = 2;
  }

  send(type: string, data: string, lastEventId = ""): void {
    this.dispatchEvent(new MessageEvent(type, { data, lastEventId }));
  }

  /** Fail as a browser does: it connects again by itself, or gives up for good. */
  fail(readyState: 0 | 2): void {
    this.readyState = readyState;
    this.dispatchEvent(new Event("error"));
  }
}

let world: World;
let abort: AbortController;

beforeEach(() => {
  world = new World();
  abort = new AbortController();
  FakeSource.all.length = 0;
  vi.stubGlobal("EventSource", FakeSource);
});

afterEach(() => vi.unstubAllGlobals());

async function opened(lastEventId = "", url = URL_OF_A_RUN) {
  const headers: Record<string, string> = { Authorization: "Bearer secret" };
  if (lastEventId) headers["Last-Event-ID"] = lastEventId;
  const response = open(world, BASE, url, { headers, signal: abort.signal });
  response.catch(() => {});
  await settle();
  const ticket = world.connections.at(-1);
  ticket?.json({ ticket: "t", url: "/api/v1/sse/executions/e/stream?ticket=t" });
  await settle();
  return { response, ticket, source: FakeSource.all.at(-1) as FakeSource };
}

test("a ticket opens the stream after the last id, and its blocks are those of the server", async () => {
  const { response, ticket, source } = await opened("4-7-0");
  expect(ticket?.method).toBe("POST");
  expect(ticket?.url.pathname).toBe("/sub/api/v1/sse/tickets");
  expect(ticket?.headers.get("Authorization")).toBe("Bearer secret");
  expect(source.url).toBe(`${BASE}/api/v1/sse/executions/e/stream?ticket=t&last_event_id=4-7-0`);
  source.onopen?.();
  source.send("step:started", '{\n"a": 1}', "4-8-0");
  source.send("error", "an event of the server", "4-8-0");
  source.fail(0);
  expect(source.readyState).toBe(2);
  expect(await (await response).text()).toBe(
    'event: step:started\ndata: {\ndata: "a": 1}\nid: 4-8-0\n\n' +
      "event: error\ndata: an event of the server\n\n",
  );
});

test("events of all topics are received", async () => {
  const url = `${BASE}/api/v1/sse/stream?topics=${encodeURIComponent("tag:a b,runs")}`;
  const { response, source } = await opened("", url);
  source.onopen?.();
  source.send("tag:a b", "1", "1");
  source.send("runs", "2", "2");
  source.fail(0);
  expect((await (await response).text()).match(/^event: .*$/gm)).toEqual([
    "event: tag:a b",
    "event: runs",
  ]);
});

test("an open stream without events stays alive, and an aborted one is closed", async () => {
  const { response, source } = await opened();
  source.onopen?.();
  const reader = (await response).body?.getReader();
  await world.pass(500);
  expect(new TextDecoder().decode((await reader?.read())?.value)).toBe(":\n\n");
  abort.abort();
  expect((await reader?.read())?.done).toBe(true);
  expect(source.readyState).toBe(2);
  expect(world.isIdle).toBe(true);
});

test("the status of a refused stream is that of a request", async () => {
  const { response, source } = await opened();
  source.fail(2);
  await settle();
  world.connections.at(-1)?.reject(204);
  expect((await response).status).toBe(204);
});

test("the status of a refused ticket is that of the stream", async () => {
  const response = open(world, BASE, URL_OF_A_RUN, { signal: abort.signal });
  await settle();
  world.connections.at(-1)?.reject(401);
  expect((await response).status).toBe(401);
  expect(FakeSource.all).toEqual([]);
});

test("a connection that fails before it opens is an error", async () => {
  const { response, source } = await opened();
  source.fail(0);
  await expect(response).rejects.toThrow("the connection failed");
});
