import fc from "fast-check";
import { expect, test } from "vitest";
import { type Effect, type Input, type Link, NEW_LINK, step } from "../src/link.js";
import { DEFAULTS } from "../src/times.js";

const reasons = ["hidden", "offline", "frozen", "manual", "unauthorized"] as const;
const timers = ["retry", "silence", "hide", "show"] as const;

const plain = ["start", "stop", "restart", "byte", "content", "wake", "reconnect"] as const;

const input: fc.Arbitrary<Input> = fc.oneof(
  fc.record({ type: fc.constantFrom(...plain) }),
  fc.record({
    type: fc.constantFrom("pause" as const, "resume" as const),
    reason: fc.constantFrom(...reasons),
  }),
  fc.record({
    type: fc.constant("answered" as const),
    status: fc.constantFrom(200, 204, 401, 403, 429, 503),
  }),
  fc.record({ type: fc.constant("closed" as const), cause: fc.constant(null) }),
  fc.record({ type: fc.constant("retry" as const), ms: fc.nat(5_000) }),
  fc.record({
    type: fc.constant("refused" as const),
    reason: fc.constantFrom("draining", "too_many"),
    retryMs: fc.option(fc.nat(5_000)),
  }),
  fc.constant({ type: "expired" as const }),
  fc.record({ type: fc.constant("token" as const), ok: fc.boolean() }),
  fc.record({ type: fc.constant("timer" as const), name: fc.constantFrom(...timers) }),
);

/** Drive a link with inputs; timers fire only if they are set. */
function drive(
  inputs: readonly (readonly [Input, number])[],
  see: (link: Link, effects: readonly Effect[], isOpen: boolean, running: Set<string>) => void,
): void {
  let link = NEW_LINK;
  let now = 0;
  let isOpen = false;
  const running = new Set<string>();
  for (const [input, ms] of inputs) {
    now += ms;
    if (input.type === "timer" && !running.delete(input.name)) continue;
    if (input.type === "closed" || (input.type === "answered" && input.status !== 200)) {
      if (!isOpen) continue;
      isOpen = false;
    }
    const [next, effects] = step(link, input, DEFAULTS, { now, random: 0.5 });
    for (const effect of effects) {
      if (effect.type === "open") {
        expect(isOpen && !effects.some(({ type }) => type === "abort")).toBe(false);
        isOpen = true;
      } else if (effect.type === "abort") isOpen = false;
      else if (effect.type === "timer" && effect.ms !== null) running.add(effect.name);
      else if (effect.type === "timer") running.delete(effect.name);
    }
    link = next;
    see(link, effects, isOpen, running);
  }
}

const inputs = fc.array(fc.tuple(input, fc.nat(60_000)), { maxLength: 60 });

test("a link never opens while there is a reason to pause", () => {
  fc.assert(
    fc.property(inputs, (inputs) => {
      drive(inputs, (link, effects) => {
        if (effects.some(({ type }) => type === "open")) expect(link.pauses).toEqual([]);
      });
    }),
    { numRuns: 2_000 },
  );
});

test("a link that waits has a timer that ends the wait, an open one a timer for silence", () => {
  fc.assert(
    fc.property(inputs, (inputs) => {
      drive(inputs, (link, _effects, _isOpen, running) => {
        if (link.phase === "waiting") expect(running.has("retry")).toBe(true);
        if (link.phase === "opening" || link.phase === "open")
          expect(running.has("silence")).toBe(true);
        if (link.phase === "idle") expect(running.has("retry")).toBe(false);
      });
    }),
    { numRuns: 2_000 },
  );
});

test("a delay is never shorter than the server's retry, and never longer than the longest", () => {
  fc.assert(
    fc.property(inputs, (inputs) => {
      drive(inputs, (link, effects) => {
        for (const effect of effects)
          if (effect.type === "timer" && effect.name === "retry" && effect.ms !== null) {
            expect(effect.ms).toBeGreaterThanOrEqual(link.floor ?? 0);
            expect(effect.ms).toBeLessThanOrEqual(DEFAULTS.probeInterval);
          }
      });
    }),
    { numRuns: 2_000 },
  );
});

test("what polls is not live", () => {
  fc.assert(
    fc.property(inputs, (inputs) => {
      drive(inputs, (link) => expect(link.polling && link.isLive).toBe(false));
    }),
    { numRuns: 2_000 },
  );
});
