/** A surface to pan and zoom, with nodes at their places and lines between them. */
import {
  type KeyboardEvent,
  memo,
  type ReactNode,
  type Ref,
  useEffect,
  useImperativeHandle,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from "react";
import {
  areaOf,
  type Box,
  fitted,
  overlap,
  panned,
  revealed,
  type View,
  zoomed,
} from "./viewport.ts";

export interface BoardNode extends Box {
  id: string;
}

export interface BoardLine {
  id: string;
  from: Box;
  to: Box;
  className: string;
}

export interface BoardHandle {
  zoom(factor: number): void;
  fit(): void;
  /** Pan so that a box is seen. */
  reveal(box: Box): void;
}

interface BoardProps<N extends BoardNode> {
  nodes: readonly N[];
  lines: readonly BoardLine[];
  render: (node: N) => ReactNode;
  /** The view fits all nodes again when this changes. */
  fitOn: unknown;
  label: string;
  /** The node that has the focus of the keys. */
  focused: Box | null;
  ref?: Ref<BoardHandle>;
}

const ZOOM_STEP = 1.25;
const PAN_PX = 80;
/** What the arrow keys do: the content moves against them. */
const PANS: Record<string, [dx: number, dy: number]> = {
  ArrowLeft: [PAN_PX, 0],
  ArrowRight: [-PAN_PX, 0],
  ArrowUp: [0, PAN_PX],
  ArrowDown: [0, -PAN_PX],
};
/** A pointer that moved less than this has clicked, in pixels. */
const CLICK_PX = 4;

export function Board<N extends BoardNode>(props: BoardProps<N>) {
  const { nodes, lines, render, fitOn, label, focused, ref } = props;
  const frame = useRef<HTMLElement>(null);
  const world = useRef<HTMLDivElement>(null);
  const view = useRef<View>({ x: 0, y: 0, zoom: 1 });
  const isMoved = useRef(false);
  // What is far outside is not drawn. The area is larger than the frame, so it changes rarely.
  const [area, setArea] = useState<Box>({ x: 0, y: 0, width: 0, height: 0 });

  const show = (next: View) => {
    const { current: box } = frame;
    if (box === null || world.current === null) return;
    view.current = next;
    world.current.style.transform = `translate(${next.x}px, ${next.y}px) scale(${next.zoom})`;
    const seen = areaOf(next, box.clientWidth, box.clientHeight, 0);
    setArea((area) =>
      covers(area, seen) ? area : areaOf(next, box.clientWidth, box.clientHeight, 0.6),
    );
  };
  const fit = () => {
    const { current: box } = frame;
    isMoved.current = false;
    if (box) show(fitted(nodes, box.clientWidth, box.clientHeight));
  };
  const latest = useRef({ show, fit });
  latest.current = { show, fit };
  const move = (next: (now: View, width: number, height: number) => View) => {
    const { current: box } = frame;
    if (!box) return;
    isMoved.current = true;
    latest.current.show(next(view.current, box.clientWidth, box.clientHeight));
  };
  const zoom = (factor: number) =>
    move((now, width, height) => zoomed(now, factor, width / 2, height / 2));
  useImperativeHandle(ref, () => ({
    fit: () => latest.current.fit(),
    zoom,
    reveal: (node) => move((now, width, height) => revealed(now, node, width, height)),
  }));
  const press = (event: KeyboardEvent) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const pan = PANS[event.key];
    if (pan) move((now) => panned(now, ...pan));
    else if (event.key === "+" || event.key === "=") zoom(ZOOM_STEP);
    else if (event.key === "-") zoom(1 / ZOOM_STEP);
    else if (event.key === "0") fit();
    else return;
    event.preventDefault();
  };
  // biome-ignore lint/correctness/useExhaustiveDependencies: new places need a new view
  useLayoutEffect(() => latest.current.fit(), [fitOn]);
  useEffect(() => {
    const { current: box } = frame;
    if (box === null) return;
    const move = (next: View) => {
      isMoved.current = true;
      latest.current.show(next);
    };
    const resized = new ResizeObserver(() => {
      if (isMoved.current) latest.current.show(view.current);
      else latest.current.fit();
    });
    resized.observe(box);
    const release = followPointers(box, view, move);
    return () => {
      resized.disconnect();
      release();
    };
  }, []);

  const drawn = useMemo(() => nodes.filter((node) => overlap(node, area)), [nodes, area]);
  return (
    <section
      className="board"
      ref={frame}
      aria-label={label}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: a surface that arrow keys pan
      tabIndex={0}
      onKeyDown={press}
    >
      <div className="board-world" ref={world}>
        <Lines lines={lines} area={area} />
        {drawn.map((node) => (
          <Place key={node.id} node={node} render={render as (node: BoardNode) => ReactNode} />
        ))}
        {focused ? (
          <div
            className="board-focus"
            style={{
              ...{ left: focused.x, top: focused.y },
              ...{ width: focused.width, height: focused.height },
            }}
          />
        ) : null}
      </div>
    </section>
  );
}

const Place = memo(function Place(props: {
  node: BoardNode;
  render: (node: BoardNode) => ReactNode;
}) {
  const { node, render } = props;
  return (
    <div className="board-node" style={{ left: node.x, top: node.y }}>
      {render(node)}
    </div>
  );
});

const Lines = memo(function Lines({ lines, area }: { lines: readonly BoardLine[]; area: Box }) {
  return (
    <svg className="board-lines" aria-hidden="true">
      {lines
        .filter(({ from, to }) => overlap(between(from, to), area))
        .map(({ id, from, to, className }) => (
          <path key={id} className={className} d={curve(from, to)} />
        ))}
    </svg>
  );
});

function between(from: Box, to: Box): Box {
  const [x, y] = [Math.min(from.x, to.x), Math.min(from.y, to.y)];
  const right = Math.max(from.x + from.width, to.x + to.width);
  const bottom = Math.max(from.y + from.height, to.y + to.height);
  return { x, y, width: right - x, height: bottom - y };
}

function curve(from: Box, to: Box): string {
  const [x, y] = [from.x + from.width, from.y + from.height / 2];
  const [endX, endY] = [to.x, to.y + to.height / 2];
  const bend = Math.max(25, Math.abs(endX - x) / 2);
  return `M${x} ${y}C${x + bend} ${y} ${endX - bend} ${endY} ${endX} ${endY}`;
}

function covers(area: Box, seen: Box): boolean {
  return (
    area.x <= seen.x &&
    area.y <= seen.y &&
    area.x + area.width >= seen.x + seen.width &&
    area.y + area.height >= seen.y + seen.height &&
    // After zooming in, most of the area is not seen.
    area.width <= seen.width * 6
  );
}

/** Pan with one pointer, zoom with two or with the wheel; return how to stop. */
function followPointers(
  box: HTMLElement,
  view: { readonly current: View },
  move: (next: View) => void,
): () => void {
  const pointers = new Map<number, { x: number; y: number }>();
  let travelled = 0;
  const at = (event: MouseEvent) => {
    const { left, top } = box.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  };
  const on = {
    pointerdown(event: PointerEvent) {
      if (event.button !== 0) return;
      if (pointers.size === 0) travelled = 0;
      pointers.set(event.pointerId, at(event));
    },
    pointermove(event: PointerEvent) {
      const before = pointers.get(event.pointerId);
      if (before === undefined) return;
      const now = at(event);
      const [other] = [...pointers]
        .filter(([id]) => id !== event.pointerId)
        .map(([, each]) => each);
      pointers.set(event.pointerId, now);
      if (other) {
        const spread = (from: typeof now) => Math.hypot(from.x - other.x, from.y - other.y) || 1;
        move(zoomed(view.current, spread(now) / spread(before), other.x, other.y));
        travelled = CLICK_PX;
        return;
      }
      travelled += Math.hypot(now.x - before.x, now.y - before.y);
      if (travelled < CLICK_PX) return;
      // Not earlier: a captured pointer does not click the node below it.
      box.setPointerCapture(event.pointerId);
      move(panned(view.current, now.x - before.x, now.y - before.y));
    },
    pointerup: ({ pointerId }: PointerEvent) => pointers.delete(pointerId),
    pointercancel: ({ pointerId }: PointerEvent) => pointers.delete(pointerId),
    wheel(event: WheelEvent) {
      event.preventDefault();
      const { x, y } = at(event);
      const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 20 : 1;
      move(zoomed(view.current, 2 ** (-event.deltaY * lines * 0.002), x, y));
    },
  };
  const stop = new AbortController();
  for (const [name, listener] of Object.entries(on))
    box.addEventListener(name, listener as EventListener, { passive: false, signal: stop.signal });
  return () => stop.abort();
}
