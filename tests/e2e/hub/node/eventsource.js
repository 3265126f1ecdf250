// Follows a stream with the npm package `eventsource`, which behaves as a browser's does.

import { EventSource } from "eventsource";
import { received, stopped, types, url } from "./follow.js";

const source = new EventSource(url);
for (const type of types) {
  source.addEventListener(type, (event) => received(event.lastEventId, type, event.data));
}
source.addEventListener("error", () => {
  if (source.readyState === EventSource.CLOSED) stopped();
});
