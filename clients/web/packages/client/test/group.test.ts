import { expect, test } from "vitest";
import type { Locks } from "../src/group.js";
import * as leader from "../src/leader.js";
import type { TailraceClient } from "../src/types.js";
import { Browser, Notes, type Tab, World } from "./world.js";

interface Page {
  readonly tab: Tab;
  readonly client: TailraceClient;
  readonly notes: Notes;
}

/** A server with one topic, whose log grows by `append`. */
class Server {
  readonly world = new World();
  readonly browser = new Browser();
  readonly pages: Page[] = [];
  #log = 0;

  constructor() {
    let seed = 7;
    this.world.chance = () => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed / 2_147_483_647;
    };
    this.world.serve = (connection) => {
      const after = connection.lastEventId || connection.url.searchParams.get("since");
      connection.open();
      if (!after)
        connection.topic("paused", "paused.initial", { until: this.#log }, `${this.#log}`);
      else for (let id = Number(after) + 1; id <= this.#log; id++) this.#send(connection, id);
      connection.send(": hi\n");
    };
  }

  #send(connection: { topic: World["stream"]["topic"] }, id: number): void {
    connection.topic("paused", "event", { n: id }, `${id}`);
  }

  append(): void {
    this.#log += 1;
    for (const connection of this.world.live) this.#send(connection, this.#log);
  }

  get length(): number {
    return this.#log;
  }

  async open(): Promise<Page> {
    const tab = this.browser.tab();
    const parts = { host: tab.host(this.world), shared: tab, startWorker: null };
    const client = this.world.client({ sharing: "locks" }, parts);
    const notes = new Notes();
    client.observe("paused", notes);
    const page = { tab, client, notes };
    this.pages.push(page);
    await this.world.pass(200);
    return page;
  }

  get leaders(): Page[] {
    return this.pages.filter(
      ({ tab, client }) => !tab.isDead && !tab.isFrozen && client.connection.get().leads,
    );
  }

  /** The leading page; fails unless there is exactly one. */
  leader(): Page {
    const [leader, ...others] = this.leaders;
    if (leader === undefined || others.length) throw new Error(`${this.leaders.length} leaders`);
    return leader;
  }

  /** Events that a page knows: those in its snapshot, and each that came after it. */
  static known({ notes }: Page): number[] {
    const [snapshot, ...rest] = notes.current;
    const before = Array.from({ length: snapshot?.data.until ?? 0 }, (_, index) => index + 1);
    return [...before, ...rest.map((block) => block.data.n)];
  }

  /** Every page that lives knows every event once, in order. */
  check(): void {
    const all = Array.from({ length: this.#log }, (_, index) => index + 1);
    for (const page of this.pages)
      if (!page.tab.isDead && !page.tab.isFrozen) expect(Server.known(page)).toEqual(all);
  }
}

async function withTabs(count: number): Promise<Server> {
  const server = new Server();
  for (let each = 0; each < count; each++) await server.open();
  return server;
}

test("twelve tabs share one stream, and all are live", async () => {
  const server = await withTabs(12);
  for (let event = 0; event < 5; event++) server.append();
  await server.world.pass(100);
  expect(server.world.live).toHaveLength(1);
  expect(server.world.streams).toHaveLength(1);
  server.check();
  for (const { client } of server.pages)
    expect(client.connection.get()).toMatchObject({ state: "connected", tabs: 12, streams: 1 });
});

test("a tab that comes late is served without a request", async () => {
  const server = await withTabs(1);
  server.append();
  await server.world.pass(100);
  await server.open();
  expect(server.world.connections).toHaveLength(1);
  server.check();
});

test("a tab that is prepared holds the streams before anything is subscribed", async () => {
  const { world, browser } = new Server();
  const tab = browser.tab();
  const parts = { host: tab.host(world), shared: tab, startWorker: null };
  const client = world.client({ sharing: "locks" }, parts);
  client.prepare();
  await world.pass(200);
  expect(client.connection.get().leads).toBe(true);
  expect(world.connections).toHaveLength(0);
  client.observe("runs", new Notes());
  client.observe("paused", new Notes());
  await world.pass(0);
  expect(world.connections).toHaveLength(1);
  expect(world.stream.topics).toEqual(["paused", "runs"]);
});

const endings: [string, (page: Page) => void][] = [
  ["killed", ({ tab }) => tab.kill()],
  [
    "closed",
    ({ client, tab }) => {
      client.close();
      tab.isDead = true;
    },
  ],
  ["frozen", ({ tab }) => tab.freeze()],
];

for (const [name, end] of endings)
  test(`when the leading tab is ${name}, another leads within 2 s and nothing is lost`, async () => {
    const server = await withTabs(4);
    server.append();
    await server.world.pass(50);
    const before = server.leader();
    server.append();
    end(before);
    server.append();
    await server.world.pass(2_000);
    expect(server.leader()).not.toBe(before);
    server.append();
    await server.world.pass(200);
    server.check();
    for (const { notes, tab } of server.pages)
      if (!tab.isDead && !tab.isFrozen) expect(notes.resets).toEqual(["opened"]);
  });

test("a frozen leader that wakes up follows", async () => {
  const server = await withTabs(3);
  const first = server.leader();
  first.tab.freeze();
  await server.world.pass(2_000);
  server.append();
  await server.world.pass(100);
  first.tab.thaw();
  await server.world.pass(3_000);
  expect(server.leaders).toHaveLength(1);
  expect(server.leader()).not.toBe(first);
  expect(server.world.live).toHaveLength(1);
  server.append();
  await server.world.pass(100);
  server.check();
});

test("a tab that leaves takes its topics with it", async () => {
  const server = await withTabs(2);
  const other = server.pages[1] as Page;
  other.client.observe("runs", new Notes());
  await server.world.pass(500);
  expect(server.world.stream.topics).toEqual(["paused", "runs"]);
  other.tab.kill();
  await server.world.pass(3_000);
  expect(server.world.stream.topics).toEqual(["paused"]);
  expect(server.pages[0]?.client.connection.get().tabs).toBe(1);
});

test("tabs come and go at random: every tab knows every event once", async () => {
  const server = await withTabs(3);
  for (let round = 0; round < 120; round++) {
    const alive = server.pages.filter(({ tab }) => !tab.isDead);
    const page = alive[Math.floor(server.world.random() * alive.length)] as Page;
    const choice = server.world.random();
    if (choice < 0.3) server.append();
    else if (choice < 0.5) server.world.live[0]?.cut();
    else if (choice < 0.6 && alive.length < 8) await server.open();
    else if (choice < 0.7 && alive.length > 1) page.tab.kill();
    else if (choice < 0.8) page.tab.freeze();
    else for (const { tab } of alive) tab.thaw();
    await server.world.pass(server.world.random() * 1_500);
    expect(server.world.live.length).toBeLessThanOrEqual(2);
  }
  for (const { tab } of server.pages) tab.thaw();
  server.append();
  await server.world.pass(10_000);
  expect(server.world.live).toHaveLength(1);
  server.check();
});

test("one tab refreshes the token for all", async () => {
  const server = new Server();
  let current = "old";
  let asked = 0;
  const token = () => {
    asked += 1;
    return current;
  };
  const clients = [1, 2, 3].map(() => {
    const tab = server.browser.tab();
    const parts = { host: tab.host(server.world), shared: tab, startWorker: null };
    return server.world.client({ sharing: "locks", token }, parts);
  });
  for (const client of clients) client.observe("paused", new Notes());
  await server.world.pass(500);
  expect(server.world.live).toHaveLength(1);
  current = "new";
  asked = 0;
  const serve = server.world.serve;
  server.world.serve = (connection) => {
    if (connection.headers.get("Authorization") !== "Bearer new") connection.reject(401);
    else if (connection.headers.get("Accept") === "text/event-stream") serve?.(connection);
    else connection.json({ workflows: [] });
  };
  server.world.stream.cut();
  await server.world.pass(5_000);
  expect(server.world.live).toHaveLength(1);
  await Promise.all(clients.map((client) => client.request("GET /api/v1/workflows")));
  expect(asked).toBe(1);
});

test("streams of a worker that are refused at the same time wait for the same token", async () => {
  const server = new Server();
  const tokens = ["old", "new"];
  const options = { sharing: "auto", token: () => tokens.shift() ?? "another" } as const;
  const client = server.world.client(options, server.browser.worker(server.world)());
  client.observe("paused", new Notes());
  client.observe("/api/realtime/events", new Notes());
  const serve = server.world.serve;
  server.world.serve = (connection) => {
    if (connection.headers.get("Authorization") === "Bearer new") serve?.(connection);
    else connection.reject(401);
  };
  await server.world.pass(1_000);
  expect(client.connection.get()).toMatchObject({ sharing: "worker", streams: 2 });
});

test("a worker whose tab was closed during a refresh asks the next tab", async () => {
  const { world, browser } = new Server();
  const partsOf = browser.worker(world);
  const open = async () => {
    const tokens = ["old"];
    const token = () => tokens.shift() ?? "new";
    const client = world.client({ sharing: "auto", token }, partsOf());
    client.observe("paused", new Notes());
    await world.pass(500);
    return client;
  };
  const first = await open();
  first.close();
  await world.pass(50);
  world.stream.send("event: stream:auth-expired\ndata: {}\n\n");
  await world.pass(2_000);
  expect(world.live).toHaveLength(0);

  const { serve } = world;
  world.serve = (connection) => {
    if (connection.headers.get("Authorization") === "Bearer new") serve?.(connection);
    else connection.reject(401);
  };
  const next = await open();
  expect(next.connection.get()).toMatchObject({ state: "connected", sharing: "worker" });
});

const CANNOT_LOAD = "Failed to fetch dynamically imported module";

/** Return a load that fails so many times, and what it notes of its calls. */
function failing(times: number) {
  const calls = { count: 0 };
  const load = async () => {
    calls.count += 1;
    if (calls.count <= times) throw new TypeError(CANNOT_LOAD);
    return leader;
  };
  return { calls, load };
}

for (const sharing of ["none", "locks"] as const)
  test(`with sharing ${sharing}, code that cannot be loaded is loaded again with back-off`, async () => {
    const { world, browser } = new Server();
    const { calls, load } = failing(6);
    const tab = browser.tab();
    const shared = sharing === "none" ? null : tab;
    const client = world.client({ sharing }, { host: tab.host(world), shared, load });
    const notes = new Notes();
    client.observe("paused", notes);
    await world.pass(10_000);
    expect(calls.count).toBeLessThan(5);
    expect(client.connection.get()).toMatchObject({ state: "error", cause: CANNOT_LOAD });
    client.observe("runs", new Notes());
    await world.pass(120_000);
    expect(calls.count).toBe(7);
    expect(world.live).toHaveLength(1);
    expect(notes.resets).toEqual(["opened"]);
    expect(client.connection.get()).toMatchObject({ state: "connected", cause: null });
  });

test("a tab without the code shows the streams of the tab that leads", async () => {
  const server = await withTabs(1);
  const [page] = server.pages;
  const tab = server.browser.tab();
  const parts = { host: tab.host(server.world), shared: tab, load: failing(100).load };
  const client = server.world.client({ sharing: "locks" }, parts);
  client.observe("paused", new Notes());
  await server.world.pass(10_000);
  expect(client.connection.get()).toMatchObject({ state: "connected", cause: null });
  page?.client.close();
  client.close();
});

test("a tab that leads nothing forgets why its code was not loaded", async () => {
  const { world, browser } = new Server();
  const [first, second] = [failing(0), failing(3)].map(({ load }) => {
    const tab = browser.tab();
    const client = world.client(
      { sharing: "locks" },
      { host: tab.host(world), shared: tab, load, startWorker: null },
    );
    client.prepare();
    return client;
  });
  await world.pass(3_000);
  expect(second?.connection.get()).toMatchObject({ state: "error", cause: CANNOT_LOAD });
  await world.pass(20_000);
  expect(first?.connection.get().leads).toBe(true);
  expect(second?.connection.get()).toMatchObject({ state: "disconnected", cause: null });
});

test("a client that is closed loads nothing any more", async () => {
  const { world, browser } = new Server();
  const { calls, load } = failing(Number.POSITIVE_INFINITY);
  const tab = browser.tab();
  const client = world.client({ sharing: "locks" }, { host: tab.host(world), shared: tab, load });
  client.observe("paused", new Notes());
  await world.pass(5_000);
  client.close();
  const { count } = calls;
  await world.pass(100);
  expect(world.isIdle).toBe(true);
  await world.pass(600_000);
  expect(calls.count).toBe(count);
});

test("locks that refuse all requests are not asked in a loop", async () => {
  const { world, browser } = new Server();
  const tab = browser.tab();
  let asked = 0;
  const locks: Locks = {
    request: async () => {
      asked += 1;
      throw new DOMException("no locks here", "SecurityError");
    },
  };
  const shared = { locks, channel: (name: string) => tab.channel(name) };
  const client = world.client({ sharing: "locks" }, { host: tab.host(world), shared });
  client.observe("paused", new Notes());
  await world.pass(3_000);
  expect(asked).toBeLessThan(20);
  client.close();
});

test("a client that is closed does not lead again, although its tab lives on", async () => {
  const server = await withTabs(2);
  const first = server.leader();
  first.client.close();
  await server.world.pass(2_000);
  expect(server.leader()).not.toBe(first);
  server.leader().client.close();
  await server.world.pass(5_000);
  expect(server.leaders).toEqual([]);
  expect(server.world.live).toHaveLength(0);
  expect(server.world.isIdle).toBe(true);
});
