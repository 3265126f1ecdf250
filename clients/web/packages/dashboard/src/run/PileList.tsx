/** The steps of a pile, however many they are. */
import { useEffect, useRef, useState } from "react";
import * as icons from "../ui/icons.tsx";
import { StatusWord } from "../ui/status.tsx";
import { VirtualList } from "../ui/VirtualList.tsx";
import type { Step } from "./fold.ts";
import type { Shape } from "./shape.ts";

/** More steps than this are not drawn one by one. */
const MAX_DRAWN = 120;

interface Props {
  pile: Shape;
  steps: ReadonlyMap<string, Step> | undefined;
  selected: string | null;
  onSelect: (id: string) => void;
  /** Draw its steps instead of the pile; null if that is impossible. */
  onDraw: (() => void) | null;
  onClose: () => void;
}

export function PileList({ pile, steps, selected, onSelect, onDraw, onClose }: Props) {
  const [text, setText] = useState("");
  const search = useRef<HTMLInputElement>(null);
  useEffect(() => search.current?.focus(), []);
  const wanted = text.toLowerCase();
  const statusOf = (id: string) => steps?.get(id)?.status ?? "pending";
  const shown = pile.members.filter(
    (id) => !wanted || `${id} ${steps ? statusOf(id) : ""}`.toLowerCase().includes(wanted),
  );
  return (
    <aside
      className="card panel pile-list"
      aria-label={`Steps of ${pile.title}`}
      onKeyDown={(event) => event.key === "Escape" && onClose()}
    >
      <div className="card-head wrap">
        <b className="clip">{pile.title}</b>
        <span className="grow" />
        {onDraw && pile.members.length <= MAX_DRAWN ? (
          <button type="button" className="btn" onClick={onDraw}>
            Draw each
          </button>
        ) : null}
        <button
          type="button"
          className="btn quiet icon"
          aria-label="Close the list"
          onClick={onClose}
        >
          <icons.Close />
        </button>
        <input
          ref={search}
          className="input"
          placeholder="Filter by id or status"
          aria-label="Filter the steps of the pile"
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
        <span className="muted" role="status">
          {shown.length.toLocaleString("en")} of {pile.members.length.toLocaleString("en")}
        </span>
      </div>
      <VirtualList items={shown} rowHeight={30} label="Steps of the pile">
        {(id) => (
          <button
            type="button"
            className="vrow pile-cols"
            data-selected={id === selected || undefined}
            data-member={id}
            onClick={() => onSelect(id)}
          >
            {steps ? <StatusWord status={statusOf(id)} /> : null}
            <span className="clip strong">{steps?.get(id)?.name || id}</span>
          </button>
        )}
      </VirtualList>
    </aside>
  );
}
