import { useVirtualizer } from "@tanstack/react-virtual";
import { type KeyboardEvent, type ReactNode, useEffect, useRef } from "react";

interface Props<T> {
  items: readonly T[];
  rowHeight: number;
  label: string;
  /** Follow the end while it grows. */
  follow?: boolean;
  children: (item: T, index: number) => ReactNode;
}

/** A long list of rows of one height, of which only the visible ones exist. */
export function VirtualList<T>({ items, rowHeight, label, follow, children }: Props<T>) {
  const frame = useRef<HTMLElement>(null);
  const rows = useVirtualizer({
    count: items.length,
    getScrollElement: () => frame.current,
    estimateSize: () => rowHeight,
    overscan: 12,
  });
  useEffect(() => {
    if (follow && items.length) rows.scrollToIndex(items.length - 1);
  }, [follow, items.length, rows]);
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls is reached by keys
    <section ref={frame} className="vlist" tabIndex={0} aria-label={label} onKeyDown={moveRow}>
      <div className="vlist-inner" style={{ height: rows.getTotalSize() }}>
        {rows.getVirtualItems().map((row) => {
          const item = items[row.index];
          if (item === undefined) return null;
          return (
            <div
              key={row.key}
              data-index={row.index}
              style={{ transform: `translateY(${row.start}px)`, height: rowHeight, ...PLACE }}
            >
              {children(item, row.index)}
            </div>
          );
        })}
      </div>
    </section>
  );
}

/** Arrow keys move between the buttons of rows, also to rows that are not seen yet. */
function moveRow(event: KeyboardEvent<HTMLElement>): void {
  const by = event.key === "ArrowDown" ? 1 : event.key === "ArrowUp" ? -1 : 0;
  const row = (event.target as HTMLElement).closest<HTMLElement>("[data-index]");
  if (!by || !row) return;
  event.preventDefault();
  const next = `[data-index="${Number(row.dataset.index) + by}"] button`;
  event.currentTarget.querySelector<HTMLElement>(next)?.focus();
}

const PLACE = { position: "absolute", top: 0, left: 0, right: 0, display: "grid" } as const;
