/**
 * Open a stream with an EventSource, as a response that `fetch` would have returned.
 *
 * An EventSource sends no headers, so a ticket opens the stream. It shows neither comments nor blocks
 * without data, and passes on only events whose names it is told.
 */

import { EVENT_TYPES } from "./generated.js";
import type { Host } from "./host.js";

/** Events of dedicated streams and of the protocol, beside those of a log. */
const NAMES = [
  ...EVENT_TYPES,
  ...["connected", "heartbeat", "message"],
  ...["paused.initial", "workflow.paused", "workflow.resumed", "workflow.cancelled"],
  ...["batch_update", "status_update", "progress", "stage", "completion"],
  ...["stream:reset", "stream:refused", "stream:auth-expired", "stream:position"],
];
/** How often an open EventSource stands for the heartbeats that it hides, in ms. */
const ALIVE_MS = 500;

/** @param url below `baseUrl`. */
export async function open(
  host: Host,
  baseUrl: string,
  url: string,
  init: RequestInit,
): Promise<Response> {
  const headers = { ...(init.headers as Record<string, string>) };
  const lastEventId = headers["Last-Event-ID"];
  delete headers["Last-Event-ID"];
  const answer = await host.fetch(`${baseUrl}/api/v1/sse/tickets`, {
    ...init,
    method: "POST",
    headers: { ...headers, Accept: "application/json", "Content-Type": "application/json" },
    body: JSON.stringify({ stream: url.slice(baseUrl.length) }),
  });
  if (!answer.ok) return answer;
  const ticket = (await answer.json()) as { readonly url: string };
  const resume = lastEventId ? `&last_event_id=${encodeURIComponent(lastEventId)}` : "";
  const topics = new URL(url).searchParams.get("topics")?.split(",") ?? [];
  const body = await connect(host, baseUrl + ticket.url + resume, topics, init.signal);
  if (body !== null)
    return new Response(body, { headers: { "Content-Type": "text/event-stream" } });
  // An EventSource does not tell the status that ended it.
  const refused = await host.fetch(url, init);
  if (refused.status !== 200) return refused;
  await refused.body?.cancel();
  throw new Error("the EventSource was refused");
}

/** Return the blocks as bytes; null if the server refuses the stream. */
function connect(
  host: Host,
  url: string,
  topics: readonly string[],
  signal: AbortSignal | null | undefined,
): Promise<ReadableStream<Uint8Array> | null> {
  return new Promise((resolve, reject) => {
    const source = new EventSource(url);
    const encoder = new TextEncoder();
    let isOver = false;
    let id = "";
    let cancel = () => {};
    let body: ReadableStreamDefaultController<Uint8Array> | null = null;
    const write = (text: string) => {
      if (!isOver) body?.enqueue(encoder.encode(text));
    };
    const end = () => {
      if (isOver) return;
      isOver = true;
      cancel();
      source.close();
      body?.close();
    };
    const stayAlive = () => {
      cancel = host.timer(() => {
        write(":\n\n");
        stayAlive();
      }, ALIVE_MS);
    };
    signal?.addEventListener("abort", () => {
      end();
      reject(signal.reason);
    });
    source.onopen = () => {
      stayAlive();
      resolve(
        new ReadableStream({
          start(controller) {
            body = controller;
          },
          cancel() {
            body = null;
            end();
          },
        }),
      );
    };
    const pass = ({ type, data, lastEventId }: MessageEvent<string>) => {
      const lines = data.replaceAll("\n", "\ndata: ");
      // The id of an EventSource stays until another comes, also that of a block without data: the
      // next block has it, and resuming after it loses nothing.
      const own = lastEventId === id ? "" : `id: ${lastEventId}\n`;
      id = lastEventId;
      write(`event: ${type}\ndata: ${lines}\n${own}\n`);
    };
    for (const name of new Set([...NAMES, ...topics])) source.addEventListener(name, pass);
    // A server's event may have the name of the EventSource's own event.
    source.addEventListener("error", (event) => {
      if (event instanceof MessageEvent) return pass(event);
      const isRefused = source.readyState === 2;
      end();
      if (isRefused) resolve(null);
      else reject(new TypeError("the connection failed"));
    });
  });
}
