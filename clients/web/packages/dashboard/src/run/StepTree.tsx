/** All steps of a graph as a tree for keys and screen readers; the drawn view follows it. */
import { type KeyboardEvent, useId, useMemo, useState } from "react";
import { wordOf } from "../ui/status.tsx";
import type { Step } from "./fold.ts";
import type { Drawing } from "./shape.ts";
import { isPile, moved, type Row, rowsOf } from "./tree.ts";

interface Props {
  drawing: Drawing;
  steps: ReadonlyMap<string, Step> | undefined;
  selected: string | null;
  /** A row has the focus; null if none has it. */
  onFocus: (row: Row | null) => void;
  /** Open a step, or a pile as a list. */
  onOpen: (row: Row) => void;
}

/** Rows beside the active one that exist: of 10,000 steps, a tree needs no more. */
const BESIDE = 2;

export function StepTree({ drawing, steps, selected, onFocus, onOpen }: Props) {
  const id = useId();
  const [expanded, setExpanded] = useState<ReadonlySet<string>>(new Set());
  const [active, setActive] = useState("");
  const rows = useMemo(() => rowsOf(drawing, expanded), [drawing, expanded]);
  const at = Math.max(0, indexOf(rows, active, drawing));
  const from = Math.max(0, at - BESIDE);
  const move = (to: number) => {
    const row = rows[to];
    if (!row) return;
    setActive(row.id);
    onFocus(row);
  };
  const expand = (row: Row, isOpen: boolean) => {
    const next = new Set(expanded);
    if (isOpen) next.add(row.id);
    else next.delete(row.id);
    setExpanded(next);
  };
  const press = (event: KeyboardEvent) => {
    const row = rows[at];
    if (!row || event.ctrlKey || event.metaKey || event.altKey) return;
    const to = moved(event.key, at, rows);
    const isOpen = expanded.has(row.id);
    if (to !== null) move(to);
    else if (event.key === "ArrowRight" && isPile(row) && !isOpen) expand(row, true);
    else if (event.key === "ArrowLeft" && isPile(row) && isOpen) expand(row, false);
    else if (event.key === "Enter" || event.key === " ") onOpen(row);
    else return;
    event.preventDefault();
  };
  const enter = () => {
    const chosen = selected === null ? -1 : indexOf(rows, selected, drawing);
    move(chosen >= 0 ? chosen : at);
  };
  return (
    <div
      className="visually-hidden"
      role="tree"
      tabIndex={0}
      aria-label="Steps"
      aria-activedescendant={`${id}-${at}`}
      onKeyDown={press}
      onFocus={enter}
      onBlur={() => onFocus(null)}
    >
      {rows.slice(from, at + BESIDE + 1).map((row, index) => (
        <div
          key={row.id}
          id={`${id}-${from + index}`}
          role="treeitem"
          tabIndex={-1}
          aria-level={row.level}
          aria-posinset={row.position}
          aria-setsize={row.siblings}
          aria-selected={row.id === selected}
          aria-expanded={isPile(row) ? expanded.has(row.id) : undefined}
        >
          {wordsOf(row, steps)}
        </div>
      ))}
    </div>
  );
}

/** Return the row of a step, or that of the pile that draws it; -1 if there is none. */
function indexOf(rows: readonly Row[], id: string, { shapeOf }: Drawing): number {
  const own = rows.findIndex((row) => row.id === id);
  return own >= 0 ? own : rows.findIndex((row) => row.id === shapeOf.get(id));
}

function wordsOf({ id, level, shape }: Row, steps: Props["steps"]): string {
  const status = steps?.get(id)?.status;
  const words = [level === 1 ? shape.title : id, shape.type];
  if (level === 1 && shape.kind === "pile") words.push(`${shape.members.length} steps`);
  else if (steps) words.push(wordOf(status ?? "pending").toLowerCase());
  return words.join(", ");
}
