// Follows a stream with `@microsoft/fetch-event-source`. It is made for browsers, of which it
// needs three names. It leaves it to its user what ends and errors mean: as its own documentation
// has it, a stream that ends is begun again, and here 204 is what stops.

import { createRequire } from "node:module";
import { received, stopped, url } from "./follow.js";

globalThis.window = globalThis;
globalThis.document = { hidden: false, addEventListener() {}, removeEventListener() {} };
const { fetchEventSource } = createRequire(import.meta.url)("@microsoft/fetch-event-source");

class Over extends Error {}

await fetchEventSource(url, {
  async onopen(response) {
    if (response.status === 204) throw new Over();
    if (!response.ok) throw new Error(`status ${response.status}`);
  },
  onmessage({ id, event, data }) {
    // It also reports blocks that have no data.
    if (id && data) received(id, event, data);
  },
  onclose() {
    throw new Error("the stream has ended");
  },
  onerror(error) {
    if (error instanceof Over) throw error;
  },
}).catch((error) => {
  if (!(error instanceof Over)) throw error;
  stopped();
});
