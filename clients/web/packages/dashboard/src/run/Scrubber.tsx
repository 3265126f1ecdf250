import { useEffect, useRef } from "react";
import { useStore } from "../data/useStore.ts";
import { clock } from "../ui/format.ts";
import * as icons from "../ui/icons.tsx";
import { type Palette, prepared, usePalette } from "../ui/palette.ts";
import { isTyping } from "../ui/typing.ts";
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

/** What a mark of the track shows of its events: the last of these that is among them. */
const MARKS: (readonly [status: keyof Palette, ...types: string[]])[] = [
  ["tick"],
  ["success", "step:completed"],
  ["waiting", "step:waiting", "execution:paused"],
  ["retrying", "step:retrying"],
  ["error", "step:failed", "execution:failed"],
];
const RANKS = new Map(
  MARKS.flatMap(([, ...types], rank) => types.map((type) => [type, rank] as const)),
);
const MARK_PX = 3;

function Ticks({ store, total, at }: { store: RunStore; total: number; at: number }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const palette = usePalette();
  useEffect(() => {
    const element = canvas.current;
    if (!element || total < 2) return;
    const { clientWidth: width, clientHeight: height } = element;
    const context = prepared(element, width, height);
    if (!context) return;
    const { events } = store.history;
    // Thousands of events share marks: one for so many pixels.
    const marks = Math.min(total, Math.max(2, Math.floor(width / MARK_PX)));
    const ranks = new Uint8Array(marks);
    for (let index = 0; index < total; index++) {
      const mark = Math.floor((index * marks) / total);
      ranks[mark] = Math.max(ranks[mark] ?? 0, RANKS.get(events[index]?.type ?? "") ?? 0);
    }
    ranks.forEach((rank, mark) => {
      context.fillStyle = palette[MARKS[rank]?.[0] ?? "tick"];
      context.globalAlpha = mark < (at * marks) / total ? 0.9 : 0.3;
      const x = (mark / (marks - 1)) * (width - 1.5);
      context.fillRect(x, rank ? 2 : 6, 1.5, rank ? height - 4 : height - 12);
    });
  });
  return <canvas ref={canvas} />;
}
