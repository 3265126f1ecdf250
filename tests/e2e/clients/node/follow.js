// Follows streams with npm packages, and prints each event as a line of JSON.
//
// Arguments: TYPES (separated by commas), then CLIENT RUN URL, repeated. For a POST the URL begins
// with `POST `, and the body is in the environment variable BODY.

import { createRequire } from "node:module";
import { EventSource } from "eventsource";
import { createEventSource } from "eventsource-client";
import { createParser } from "eventsource-parser";
import ReconnectingEventSource from "reconnecting-eventsource";

const require = createRequire(import.meta.url);
const { EventSourcePolyfill } = require("event-source-polyfill");
// `@microsoft/fetch-event-source` is made for browsers, of which it needs three names.
globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
const { fetchEventSource } = require("@microsoft/fetch-event-source");

const [types, ...runs] = process.argv.slice(2);
const names = types.split(",");
const print = (line) => console.log(JSON.stringify(line));
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function follow(run) {
  return {
    received: (id, type, data) => print({ run, id: id ?? "", type: type || "message", data }),
    stopped: () => print({ run, stopped: true }),
  };
}

function listen(source, { received, stopped }) {
  for (const name of names) {
    source.addEventListener(name, (event) => {
      // An `error` without data is that of the connection.
      if (event.data !== undefined) received(event.lastEventId, event.type, event.data);
    });
  }
  source.addEventListener("error", () => {
    if (source.readyState === 2) stopped();
  });
}

function request(url) {
  if (!url.startsWith("POST ")) return [url, {}];
  const headers = { "content-type": "application/json", "idempotency-key": process.env.KEY };
  return [url.slice(5), { method: "POST", headers, body: process.env.BODY }];
}

class Over extends Error {}

const clients = {
  eventsource: (url, to) => listen(new EventSource(url), to),

  "event-source-polyfill": (url, to) => listen(new EventSourcePolyfill(url), to),

  "reconnecting-eventsource": (url, to) => {
    const options = { eventSourceClass: EventSource, max_retry_time: 50 };
    listen(new ReconnectingEventSource(url, options), to);
  },

  "eventsource-client": (url, { received, stopped }) => {
    const source = createEventSource({
      url,
      onMessage: ({ id, event, data }) => received(id, event, data),
      onDisconnect: () => setTimeout(() => source.readyState === "closed" && stopped(), 0),
    });
  },

  "eventsource-parser": async (url, { received, stopped }) => {
    const [target, options] = request(url);
    let id = "";
    for (;;) {
      const headers = { ...options.headers, ...(id && { "last-event-id": id }) };
      try {
        const response = await fetch(target, { ...options, headers });
        if (response.status === 204) return stopped();
        const parser = createParser({
          onEvent: (event) => {
            id = event.id ?? id;
            received(event.id, event.event, event.data);
          },
        });
        for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
          parser.feed(text);
        }
      } catch {
        // It was cut.
      }
      await sleep(20);
    }
  },

  // Without callbacks it takes the end of a stream as the end of everything, and begins again
  // after an error, a 204 included.
  "fetch-event-source": async (url, { received, stopped }) => {
    const [target, options] = request(url);
    const onmessage = ({ id, event, data }) => received(id, event, data);
    await fetchEventSource(target, { ...options, onmessage, openWhenHidden: true });
    stopped();
  },

  // The code of its documentation.
  "fetch-event-source-readme": async (url, { received, stopped }) => {
    class RetriableError extends Error {}
    class FatalError extends Error {}
    const [target, options] = request(url);
    await fetchEventSource(target, {
      ...options,
      openWhenHidden: true,
      async onopen(response) {
        if (response.ok && response.headers.get("content-type") === "text/event-stream") {
          return;
        } else if (response.status >= 400 && response.status < 500 && response.status !== 429) {
          throw new FatalError();
        } else {
          throw new RetriableError();
        }
      },
      onmessage(message) {
        if (message.event === "FatalError") throw new FatalError(message.data);
        received(message.id, message.event, message.data);
      },
      onclose() {
        throw new RetriableError();
      },
      onerror(error) {
        if (error instanceof FatalError) throw error;
      },
    });
    stopped();
  },

  // What this project recommends: a 204 is the end.
  "fetch-event-source-204": async (url, { received, stopped }) => {
    const [target, options] = request(url);
    await fetchEventSource(target, {
      ...options,
      openWhenHidden: true,
      async onopen(response) {
        if (response.status === 204) throw new Over();
      },
      onmessage: ({ id, event, data }) => received(id, event, data),
      onclose() {
        throw new Error("the stream has ended");
      },
      onerror(error) {
        if (error instanceof Over) throw error;
      },
    }).catch((error) => {
      if (!(error instanceof Over)) throw error;
    });
    stopped();
  },
};

process.on("unhandledRejection", (error) => console.error(error));
for (let at = 0; at < runs.length; at += 3) {
  const [client, run, url] = runs.slice(at, at + 3);
  clients[client](url, follow(run));
}
