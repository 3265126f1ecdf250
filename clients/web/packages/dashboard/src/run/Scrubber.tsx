import { useEffect, useRef } from "react";
import { useStore } from "../data/store.ts";
import { clock } from "../ui/format.ts";
import * as icons from "../ui/icons.tsx";
import type { RunStore } from "./runStore.ts";

/** The foot of a run: drag to any event of it, while it goes on. */
export function Scrubber({ store }: { store: RunStore }) {
  const { at, total, isLive, run } = useStore(store.view);
  const event = store.history.events[at - 1];
  const isOver = ["completed", "failed", "cancelled"].includes(run.status ?? "");
  useEffect(() => {
    const press = (pressed: KeyboardEvent) => {
      if (isTyping(pressed)) return;
      if (pressed.key === ",") store.step(-1);
      else if (pressed.key === ".") store.step(1);
      else if (pressed.key === "L") store.seek(null);
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, [store]);
  const words = isLive ? (isOver ? "End" : "Live") : "Past";
  return (
    <section className="card scrub" aria-label="Moments of this run">
      <button
        type="button"
        className={`pill go is-${isLive ? (isOver ? "skipped" : "success") : "waiting"}`}
        title="Follow the newest event (L)"
        onClick={() => store.seek(null)}
      >
        {isLive ? "●" : "◂"} {words}
      </button>
      <span className="row tight hide-narrow">
        <button
          type="button"
          className="btn quiet icon"
          aria-label="Previous event"
          title="Previous event (,)"
          onClick={() => store.step(-1)}
        >
          <icons.Back />
        </button>
        <button
          type="button"
          className="btn quiet icon"
          aria-label="Next event"
          title="Next event (.)"
          onClick={() => store.step(1)}
        >
          <icons.Next />
        </button>
      </span>
      <span className="track">
        <Ticks store={store} total={total} at={at} />
        <input
          type="range"
          min={1}
          max={Math.max(total, 1)}
          value={Math.max(at, 1)}
          aria-label="Event"
          aria-valuetext={`Event ${at} of ${total}, ${event?.type ?? "none"}`}
          onChange={(change) => store.seek(Number(change.target.value))}
        />
      </span>
      <span className="where muted nowrap">
        {event ? <code className="hide-narrow">{clock(event.timestamp, true)} </code> : null}
        event {at} of {total}
      </span>
    </section>
  );
}

const COLORS: Record<string, string> = {
  "step:failed": "--error",
  "execution:failed": "--error",
  "step:retrying": "--retrying",
  "step:waiting": "--waiting",
  "execution:paused": "--waiting",
  "step:completed": "--success",
};

function Ticks({ store, total, at }: { store: RunStore; total: number; at: number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const element = canvas.current;
    const context = element?.getContext("2d");
    if (!element || !context || total < 2) return;
    const { width, height } = element.getBoundingClientRect();
    const scale = devicePixelRatio || 1;
    element.width = width * scale;
    element.height = height * scale;
    context.scale(scale, scale);
    const colors = getComputedStyle(element);
    const events = store.history.events;
    // At most one mark for each pixel; failures are drawn last.
    const stride = Math.max(1, Math.floor(total / width));
    for (const wantsColor of [false, true]) {
      for (let index = 0; index < total; index += wantsColor ? 1 : stride) {
        const name = COLORS[events[index]?.type ?? ""];
        if (Boolean(name) !== wantsColor) continue;
        context.fillStyle = colors.getPropertyValue(
          name ? name.replace("--", "--tick-") : "--tick",
        );
        context.globalAlpha = index < at ? 0.9 : 0.3;
        const x = (index / (total - 1)) * (width - 1.5);
        context.fillRect(x, name ? 2 : 6, 1.5, name ? height - 4 : height - 12);
      }
    }
  });
  return <canvas ref={canvas} className="ticks" />;
}

export function isTyping(event: KeyboardEvent): boolean {
  if (event.ctrlKey || event.metaKey || event.altKey) return true;
  const target = event.target as HTMLElement | null;
  if (target instanceof HTMLInputElement && target.type === "range") return false;
  return target?.matches?.("input, textarea, select, [contenteditable]") ?? false;
}
