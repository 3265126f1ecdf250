/**
 * One connection as a state machine: `(link, input) → (link, effects)`. Pure.
 *
 * The caller opens and aborts requests, runs timers and fetches tokens; it reports what came of
 * them. So a test can drive a connection through any order of events without a network or a clock.
 *
 * Failures count from the last event or comment, not from the last response: a server that answers
 * 200 and ends at once must not be asked in a loop.
 */

import type { Times } from "./times.js";
import type { ConnectionDetail } from "./types.js";

/** Reasons that keep a connection closed; it opens again when none is left. */
export type Pause = "hidden" | "offline" | "frozen" | "manual" | "unauthorized";

export type TimerName = "retry" | "silence" | "hide" | "show";

export interface Link {
  readonly phase: "idle" | "opening" | "open" | "waiting" | "refreshing" | "over";
  readonly pauses: readonly Pause[];
  /** Failures since the last event or comment. */
  readonly attempt: number;
  /** Attempts in a row that were answered, but brought no byte. */
  readonly silent: number;
  /** The server's `retry:` in ms; null before the first. */
  readonly floor: number | null;
  /** When a retry or a poll of the connection is due; null for none. */
  readonly due: number | null;
  readonly byteAt: number;
  readonly hasBytes: boolean;
  /** Whether an event or a comment came over this connection. */
  readonly isLive: boolean;
  /** Whether a token was refreshed since the last event or comment. */
  readonly refreshed: boolean;
  /** Whether as many attempts have failed as may before polling. */
  readonly exhausted: boolean;
  readonly polling: boolean;
  readonly wasLive: boolean;
  readonly troubleAt: number | null;
  readonly isShown: boolean;
  readonly cause: string | null;
  readonly detail: ConnectionDetail | null;
}

export type Input =
  | { readonly type: "start" | "stop" | "restart" | "byte" | "content" | "wake" | "reconnect" }
  | { readonly type: "pause" | "resume"; readonly reason: Pause }
  | { readonly type: "answered"; readonly status: number; readonly retryAfter?: number | null }
  | { readonly type: "closed"; readonly cause: string | null }
  | { readonly type: "retry"; readonly ms: number }
  | { readonly type: "refused"; readonly reason: string; readonly retryMs: number | null }
  | { readonly type: "expired" }
  | { readonly type: "token"; readonly ok: boolean }
  | { readonly type: "timer"; readonly name: TimerName };

export type Effect =
  | { readonly type: "open" | "abort" | "refresh" }
  | { readonly type: "timer"; readonly name: TimerName; readonly ms: number | null }
  | { readonly type: "poll"; readonly on: boolean }
  | { readonly type: "over"; readonly reason: string | null };

/** How long a response may stay without its first byte, in ms; the server flushes within 100. */
const FIRST_BYTE_MS = 10_000;
/** How long a tab may be hidden before its connection closes, in ms. */
const HIDE_MS = 1_000;
/** Silent attempts after which polling begins. */
const MAX_SILENT = 2;

const BUFFERED = "a proxy seems to buffer the stream: an answer came, but no byte of it";

export const NEW_LINK: Link = {
  phase: "idle",
  pauses: [],
  attempt: 0,
  silent: 0,
  floor: null,
  due: null,
  byteAt: 0,
  hasBytes: false,
  isLive: false,
  refreshed: false,
  exhausted: false,
  polling: false,
  wasLive: false,
  troubleAt: null,
  isShown: false,
  cause: null,
  detail: null,
};

type Draft = { -readonly [K in keyof Link]: Link[K] };

/** What a decision depends on beside the link. */
export interface Moment {
  readonly now: number;
  /** Uniform in [0, 1). */
  readonly random: number;
}

export function step(
  link: Link,
  input: Input,
  times: Times,
  { now, random }: Moment,
): [Link, Effect[]] {
  const next: Draft = { ...link };
  const effects: Effect[] = [];
  const timer = (name: TimerName, ms: number | null) => effects.push({ type: "timer", name, ms });

  const isOpen = () => next.phase === "opening" || next.phase === "open";
  const close = (phase: Draft["phase"]) => {
    if (isOpen()) effects.push({ type: "abort" });
    if (isOpen() || next.phase === "waiting") {
      timer("silence", null);
      timer("retry", null);
    }
    next.phase = phase;
    next.isLive = false;
    next.due = null;
  };
  const poll = (on: boolean) => {
    if (next.polling !== on) effects.push({ type: "poll", on });
    next.polling = on;
  };
  const open = () => {
    if (next.pauses.length) return;
    close("opening");
    next.byteAt = now;
    next.hasBytes = false;
    effects.push({ type: "open" });
    timer("silence", Math.min(FIRST_BYTE_MS, times.heartbeatTimeout));
  };
  const trouble = () => {
    if (next.troubleAt !== null) return;
    next.troubleAt = now;
    timer("show", times.reconnectingAfter);
  };
  const calm = () => {
    if (next.troubleAt !== null) timer("show", null);
    next.troubleAt = null;
    next.isShown = false;
  };
  const fail = (cause: string | null, floor = 0) => {
    const wasLive = next.isLive;
    close("waiting");
    next.attempt += 1;
    next.cause = cause;
    trouble();
    next.exhausted ||= next.attempt >= times.maxReconnectAttempts || next.silent >= MAX_SILENT;
    if (next.exhausted && times.enablePollingFallback) poll(true);
    const cap = Math.min(times.maxReconnectDelay, times.reconnectDelay * 2 ** (next.attempt - 1));
    let delay = Math.max(floor, next.floor ?? 0, random * cap);
    // The server has jittered its `retry:` already, and its streams are back after it.
    if (wasLive && next.floor !== null) delay = Math.max(floor, next.floor);
    if (next.polling) delay = times.probeInterval;
    if (next.pauses.length) {
      next.phase = "idle";
      return;
    }
    next.due = now + delay;
    timer("retry", delay);
  };
  const finish = (reason: string | null) => {
    close("over");
    poll(false);
    calm();
    next.detail = reason === null ? "ended" : "refused";
    next.cause = reason;
    effects.push({ type: "over", reason });
  };
  const refresh = () => {
    if (next.refreshed) return pause("unauthorized");
    close("refreshing");
    next.refreshed = true;
    effects.push({ type: "refresh" });
  };
  const suspend = () => {
    close("idle");
    poll(false);
    calm();
  };
  const pause = (reason: Pause) => {
    if (!next.pauses.includes(reason)) next.pauses = [...next.pauses, reason];
    // A glance at another tab costs no connection; but none begins while this one is hidden.
    if (reason !== "hidden" || next.phase === "refreshing") return suspend();
    if (isOpen() || next.polling || next.phase === "waiting") timer("hide", HIDE_MS);
  };
  const resume = (reason: Pause) => {
    if (!next.pauses.includes(reason)) return;
    next.pauses = next.pauses.filter((each) => each !== reason);
    if (reason === "hidden") timer("hide", null);
    if (next.phase === "idle") open();
  };

  switch (input.type) {
    case "start":
      if (next.phase === "idle") open();
      break;
    case "stop":
      suspend();
      timer("hide", null);
      return [{ ...NEW_LINK, pauses: next.pauses, floor: next.floor }, effects];
    case "restart":
      if (isOpen()) open();
      else if (next.phase === "over") {
        next.phase = "idle";
        next.detail = next.cause = null;
        open();
      }
      break;
    case "reconnect":
      next.pauses = next.pauses.filter((each) => each !== "manual" && each !== "unauthorized");
      next.refreshed = false;
      next.attempt = next.silent = 0;
      next.exhausted = false;
      poll(false);
      if (next.phase !== "over") open();
      break;
    case "wake":
      // After a sleep the socket may be dead, and its clock with it.
      if (isOpen() || next.phase === "waiting") open();
      break;
    case "pause":
      if (next.phase === "over") next.pauses = [...new Set([...next.pauses, input.reason])];
      else pause(input.reason);
      break;
    case "resume":
      resume(input.reason);
      break;
    case "answered":
      if (next.phase !== "opening") break;
      if (input.status === 200) next.phase = "open";
      else if (input.status === 204) finish(null);
      else if (input.status === 401) refresh();
      else if ([408, 425, 429].includes(input.status) || input.status >= 500)
        fail(`the server answers ${input.status}`, input.retryAfter ?? 0);
      else finish(`the server answers ${input.status}`);
      break;
    case "byte":
      if (next.phase !== "open") break;
      next.byteAt = now;
      if (!next.hasBytes) {
        next.hasBytes = true;
        next.silent = 0;
        timer("silence", times.heartbeatTimeout);
      }
      break;
    case "content":
      if (next.phase !== "open") break;
      next.isLive = next.wasLive = true;
      next.attempt = 0;
      next.refreshed = next.exhausted = false;
      next.cause = next.detail = null;
      poll(false);
      calm();
      break;
    case "retry":
      next.floor = input.ms;
      break;
    case "closed":
      if (isOpen()) fail(input.cause ?? "the stream ended");
      break;
    case "refused":
      if (input.retryMs === null) finish(input.reason);
      else {
        next.floor = input.retryMs;
        next.detail = input.reason === "draining" ? "draining" : next.detail;
        next.isLive = false;
      }
      break;
    case "expired":
      if (isOpen()) refresh();
      break;
    case "token":
      if (next.phase !== "refreshing") break;
      next.phase = "idle";
      if (input.ok) open();
      else pause("unauthorized");
      break;
    case "timer":
      if (input.name === "show") next.isShown = true;
      else if (input.name === "hide") {
        if (next.pauses.includes("hidden")) suspend();
      } else if (input.name === "retry") {
        if (next.phase !== "waiting") break;
        next.phase = "idle";
        next.due = null;
        open();
      } else if (isOpen()) {
        const limit = next.hasBytes
          ? times.heartbeatTimeout
          : Math.min(FIRST_BYTE_MS, times.heartbeatTimeout);
        const left = next.byteAt + limit - now;
        if (left > 0) timer("silence", left);
        else {
          const isBuffered = next.phase === "open" && !next.hasBytes;
          next.silent += isBuffered ? 1 : 0;
          fail(isBuffered ? BUFFERED : `no byte for ${Math.round(limit / 1000)} s`);
        }
      }
      break;
  }
  return [next, effects];
}

/** What a page shows of a link. */
export function shown(link: Link): {
  state: "disconnected" | "connecting" | "connected" | "reconnecting" | "error";
  detail: ConnectionDetail | null;
} {
  const pause = link.pauses[0];
  if (link.phase === "over") return { state: "disconnected", detail: link.detail };
  if (link.phase === "idle") return { state: "disconnected", detail: pause ?? null };
  if (link.isLive) return { state: "connected", detail: null };
  if (link.polling) return { state: "error", detail: "polling" };
  if (link.exhausted) return { state: "error", detail: link.detail };
  if (link.isShown) return { state: "reconnecting", detail: link.detail };
  return { state: link.wasLive ? "connected" : "connecting", detail: link.detail };
}
