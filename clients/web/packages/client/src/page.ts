/** What happens to a page: it is hidden, frozen, kept for a way back, offline, or its machine sleeps. */

import type { Host } from "./host.js";
import type { Pause } from "./link.js";

export interface PageEvents {
  setVisible(isVisible: boolean): void;
  hold(reason: Pause, isPaused: boolean): void;
  wake(): void;
}

/** A timer that is later than this was stopped by a sleep, in ms. */
const SLEEP_MS = 5_000;
const TICK_MS = 2_000;

/** Report a page's events; return how to stop. Does nothing where there is no page. */
export function watchPage(host: Host, on: PageEvents): () => void {
  if (typeof document === "undefined") return () => {};
  const stopped = new AbortController();
  const { signal } = stopped;
  const show = () => on.setVisible(document.visibilityState !== "hidden");
  document.addEventListener("visibilitychange", show, { signal });
  document.addEventListener("freeze", () => on.hold("frozen", true), { signal });
  document.addEventListener("resume", () => on.hold("frozen", false), { signal });
  addEventListener("offline", () => on.hold("offline", true), { signal });
  addEventListener("online", () => on.hold("offline", false), { signal });
  // A page with open streams would not be kept for the way back.
  addEventListener("pagehide", () => on.hold("frozen", true), { signal });
  addEventListener("pageshow", ({ persisted }) => persisted && on.hold("frozen", false), {
    signal,
  });
  show();
  if (navigator.onLine === false) on.hold("offline", true);
  let at = host.now();
  let cancel = () => {};
  const tick = () => {
    const late = host.now() - at - TICK_MS;
    at = host.now();
    // The timers of hidden pages are slow.
    if (late > SLEEP_MS && document.visibilityState !== "hidden") on.wake();
    cancel = host.timer(tick, TICK_MS);
  };
  tick();
  return () => {
    stopped.abort();
    cancel();
  };
}
