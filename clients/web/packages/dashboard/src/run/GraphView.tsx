import {
  createContext,
  type RefObject,
  useContext,
  useDeferredValue,
  useEffect,
  useMemo,
  useRef,
  useState,
} from "react";
import type { GraphDocument, StepStatus } from "../data/types.ts";
import { useNow, useSelected } from "../data/useStore.ts";
import { duration, fitName } from "../ui/format.ts";
import * as icons from "../ui/icons.tsx";
import { prepared, usePalette } from "../ui/palette.ts";
import { Glyph, wordOf } from "../ui/status.tsx";
import { Board, type BoardHandle, type BoardLine, type BoardNode } from "./Board.tsx";
import { isSettled, pendingStep, type Step } from "./fold.ts";
import { PileList } from "./PileList.tsx";
import type { RunStore } from "./runStore.ts";
import { StepTree } from "./StepTree.tsx";
import { drawingOf, needsOf, relativesOf, type Shape } from "./shape.ts";
import { isPile } from "./tree.ts";
import { useLayout } from "./useLayout.ts";

type Steps = ReadonlyMap<string, Step>;

interface Surroundings {
  store: RunStore | null;
  /** The steps as piles show them: a moment later than those of a small graph. */
  steps: Steps | undefined;
  selected: string | null;
  related: ReadonlySet<string> | null;
  select: (id: string) => void;
  /** Open a pile as a list. */
  open: (pile: Shape) => void;
}

const Around = createContext<Surroundings>({
  store: null,
  steps: undefined,
  selected: null,
  related: null,
  select: () => undefined,
  open: () => undefined,
});

interface ShapeNode extends BoardNode {
  shape: Shape;
}

const NOTHING: Step[] = [];
const idle = { subscribe: () => () => undefined, get: () => NOTHING };

function useStep(store: RunStore | null, id: string): Step | undefined {
  return useSelectedRun(store, (steps) => steps.get(id));
}

function useSelectedRun<T>(store: RunStore | null, select: (steps: Steps) => T): T | undefined {
  const source = store?.view ?? (idle as unknown as RunStore["view"]);
  return useSelected(source, (view) => (store ? select(view.run.steps) : undefined));
}

function Elapsed({ step }: { step: Step }) {
  const now = useNow();
  if (isSettled(step)) {
    if (step.status === "skipped") return <span>{step.skipped_because}</span>;
    return <span>{step.kept_from ? "kept" : duration(step.duration_ms)}</span>;
  }
  const since = step.status === "waiting" ? step.waiting?.since : step.started_at;
  return <span>{since ? duration(now - Date.parse(since)) : ""}</span>;
}

function StepNode({ shape }: { shape: Shape }) {
  const { store, selected, related, select } = useContext(Around);
  const step = useStep(store, shape.id) ?? pendingStep(shape.id, shape.type, shape.title);
  const classes = ["node", `is-${step.status}`];
  if (!store) classes.push("plain");
  if (store && step.status === "running") classes.push("began");
  if (selected === shape.id) classes.push("selected");
  if (related && !related.has(shape.id)) classes.push("faded");
  return (
    <button
      type="button"
      className={classes.join(" ")}
      // The tree of the steps has the keys.
      tabIndex={-1}
      data-node={shape.id}
      data-status={step.status}
      onClick={() => select(shape.id)}
    >
      <span className="node-top">
        {store ? <Glyph status={step.status} /> : null}
        <span className="clip node-name">{fitName(shape.title)}</span>
      </span>
      <small>
        <span className="clip">
          {shape.type}
          {step.attempt > 1 ? ` · attempt ${step.attempt}` : ""}
        </span>
        {store ? <Elapsed step={step} /> : null}
      </small>
      {store ? <span className="visually-hidden">{wordOf(step.status)}</span> : null}
    </button>
  );
}

/** Whether a pile shows the items of a map, not steps that are alike. */
const isMapOf = ({ id }: Shape): boolean => !id.startsWith("pile:");

const CELL_COLUMNS = 24;
const CELLS_WIDTH = 204;
const MAX_CELLS = CELL_COLUMNS * 12;
const WORST: StepStatus[] = ["error", "retrying", "waiting", "running", "pending", "cancelled"];

function PileNode({ shape }: { shape: Shape }) {
  const { store, steps: run, selected, related, open } = useContext(Around);
  const statuses = shape.members.map((id): StepStatus => run?.get(id)?.status ?? "pending");
  const counts = new Map<StepStatus, number>();
  for (const status of statuses) counts.set(status, (counts.get(status) ?? 0) + 1);
  const own = run?.get(shape.id)?.status;
  const total =
    own ?? WORST.find((status) => counts.get(status)) ?? (counts.size ? "success" : "pending");
  const isMap = isMapOf(shape);
  const words = [...counts].map(([status, count]) => `${count} ${wordOf(status).toLowerCase()}`);
  const isFaded = related && !related.has(shape.id) && !shape.members.some((id) => related.has(id));
  const isSelected = selected === shape.id || (selected && shape.members.includes(selected));
  return (
    <button
      type="button"
      className={`node pile ${store ? "" : "plain"} is-${total} ${isSelected ? "selected" : ""} ${isFaded ? "faded" : ""}`}
      tabIndex={-1}
      data-node={shape.id}
      data-status={total}
      title="List its steps"
      onClick={() => open(shape)}
    >
      <span className="node-top">
        {store ? <Glyph status={total} /> : null}
        <span className="clip node-name">{fitName(shape.title)}</span>
      </span>
      {store ? <Cells statuses={statuses} /> : null}
      <small>
        <span className="clip">
          {isMap ? `${shape.type} · ${shape.members.length} items` : shape.type}
        </span>
        <span className="nowrap">
          {counts.get("success") ?? 0} of {shape.members.length}
        </span>
      </small>
      {store ? <span className="visually-hidden">{words.join(", ")}</span> : null}
    </button>
  );
}

/** One cell per step; of very many steps a cell stands for several, and shows the worst. */
function Cells({ statuses }: { statuses: StepStatus[] }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const cells = Math.min(statuses.length, MAX_CELLS);
  const rows = Math.ceil(cells / CELL_COLUMNS);
  const palette = usePalette();
  const shown: StepStatus[] = [];
  for (let cell = 0; cell < cells; cell++) {
    const from = Math.floor((cell * statuses.length) / cells);
    const to = Math.max(from + 1, Math.floor(((cell + 1) * statuses.length) / cells));
    const group = statuses.slice(from, to);
    shown.push(WORST.find((each) => group.includes(each)) ?? group[0] ?? "pending");
  }
  const key = shown.join();
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key stands for the statuses
  useEffect(() => {
    const context = prepared(canvas.current, CELLS_WIDTH, rows * 8);
    if (!context) return;
    const step = CELLS_WIDTH / CELL_COLUMNS;
    shown.forEach((status, cell) => {
      context.globalAlpha = status === "pending" || status === "skipped" ? 0.3 : 1;
      context.fillStyle = palette[status] ?? palette.pending;
      const [x, y] = [(cell % CELL_COLUMNS) * step, Math.floor(cell / CELL_COLUMNS) * 8];
      context.fillRect(x, y, step - 2, 6);
    });
  }, [key, rows, palette]);
  return <canvas ref={canvas} style={{ height: rows * 8 }} />;
}

const drawNode = ({ shape }: ShapeNode) =>
  shape.kind === "pile" ? <PileNode shape={shape} /> : <StepNode shape={shape} />;

interface GraphProps {
  graph: GraphDocument;
  /** The run whose state is shown; null draws the definition alone. */
  store: RunStore | null;
  selected: string | null;
  onSelect: (id: string) => void;
}

export default function GraphView({ graph, store, selected, onSelect }: GraphProps) {
  const board = useRef<BoardHandle>(null);
  /** Piles whose steps are drawn. */
  const [drawn, setDrawn] = useState<ReadonlySet<string>>(new Set());
  const [listed, setListed] = useState<string | null>(null);
  const [focused, setFocused] = useState<string | null>(null);
  const [traced, setTraced] = useState(false);
  const steps = useDeferredValue(useSelectedRun(store, (all) => all));
  const needs = useMemo(() => needsOf(graph), [graph]);
  const key = steps ? structureOf(steps) : "";
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key says what of the steps counts
  const drawing = useMemo(() => drawingOf(graph, steps ?? new Map(), drawn), [graph, key, drawn]);
  const places = useLayout(drawing);
  const nodes = useMemo(
    () =>
      drawing.shapes.flatMap((shape): ShapeNode[] => {
        const place = places?.get(shape.id);
        const { id, width, height } = shape;
        return place ? [{ id, ...place, width, height, shape }] : [];
      }),
    [drawing, places],
  );
  const related = useMemo(() => {
    if (!traced || !selected) return null;
    return relativesOf(graph, selected.replace(/\[\d+\]$/, ""));
  }, [graph, selected, traced]);
  const flowing = steps ? flowingOf(steps, needs, drawing.shapeOf) : null;
  const flowKey = flowing ? [...flowing].join() : "";
  // biome-ignore lint/correctness/useExhaustiveDependencies: the key stands for the set
  const lines = useMemo(() => {
    const boxes = new Map(nodes.map((node) => [node.id, node]));
    return drawing.edges.flatMap(({ source, target }): BoardLine[] => {
      const id = `${source}→${target}`;
      const [from, to] = [boxes.get(source), boxes.get(target)];
      const isHot = related?.has(source) && related.has(target);
      const className = isHot ? "hot" : flowing?.has(id) ? "flowing" : "";
      return from && to ? [{ id, from, to, className }] : [];
    });
  }, [drawing, nodes, related, flowKey]);
  const around = useMemo(
    () => ({
      store,
      steps,
      selected,
      related,
      select: onSelect,
      open: (pile: Shape) => {
        setListed(pile.id);
        if (isMapOf(pile)) onSelect(pile.id);
      },
    }),
    [store, steps, selected, related, onSelect],
  );
  const boxOf = (id: string | null) => nodes.find((node) => node.id === id) ?? null;
  const pile = drawing.shapes.find(({ id, kind }) => id === listed && kind === "pile");
  const draw = ({ id }: Shape) => {
    setDrawn((before) => new Set(before).add(id));
    setListed(null);
  };
  const isFolded = graph.nodes.length > drawing.shapes.length;
  return (
    <Around value={around}>
      <div className="graph" data-ready={places ? "" : undefined}>
        {places ? (
          <>
            <StepTree
              drawing={drawing}
              steps={steps}
              selected={selected}
              onFocus={(row) => {
                const box = boxOf(row?.shape.id ?? null);
                setFocused(box?.id ?? null);
                if (box) board.current?.reveal(box);
              }}
              onOpen={(row) => (isPile(row) ? around.open(row.shape) : onSelect(row.id))}
            />
            <Board
              ref={board}
              nodes={nodes}
              lines={lines}
              render={drawNode}
              focused={boxOf(focused)}
              fitOn={places}
              label="Graph of the steps: arrow keys pan, + and − zoom, 0 fits"
            />
            <Tools
              board={board}
              traced={traced}
              canTrace={selected !== null}
              setTraced={setTraced}
            />
          </>
        ) : null}
        {isFolded ? (
          <span className="graph-key">
            {graph.nodes.length.toLocaleString("en")} steps in {drawing.shapes.length} shapes · a
            click lists the steps of a pile
          </span>
        ) : null}
        {pile ? (
          <PileList
            key={pile.id}
            pile={pile}
            steps={steps}
            selected={selected}
            onSelect={onSelect}
            onDraw={isMapOf(pile) ? null : () => draw(pile)}
            onClose={() => setListed(null)}
          />
        ) : null}
      </div>
    </Around>
  );
}

/** What of the steps changes the shapes: sizes of maps, and which steps failed. */
function structureOf(steps: Steps): string {
  const parts: string[] = [];
  for (const step of steps.values()) {
    if (step.items) parts.push(`${step.node_id}*${step.items}`);
    if (step.status === "error") parts.push(`!${step.node_id}`);
  }
  return parts.join("|");
}

/** Return the lines, by their ids, that lead to a step that runs. */
function flowingOf(
  steps: Steps,
  needs: ReadonlyMap<string, string[]>,
  shapeOf: ReadonlyMap<string, string>,
): Set<string> {
  const found = new Set<string>();
  for (const { node_id, status } of steps.values()) {
    if (status !== "running") continue;
    const target = shapeOf.get(node_id);
    for (const each of needs.get(node_id) ?? []) found.add(`${shapeOf.get(each)}→${target}`);
  }
  return found;
}

interface ToolsProps {
  board: RefObject<BoardHandle | null>;
  traced: boolean;
  canTrace: boolean;
  setTraced: (on: boolean) => void;
}

function Tools({ board, ...props }: ToolsProps) {
  return (
    <div className="graph-tools">
      <button
        type="button"
        className="btn"
        aria-pressed={props.traced}
        disabled={!props.canTrace}
        title="Show what the selected step depends on, and what depends on it"
        onClick={() => props.setTraced(!props.traced)}
      >
        Trace
      </button>
      <button
        type="button"
        className="btn icon"
        aria-label="Zoom in"
        onClick={() => board.current?.zoom(1.25)}
      >
        <icons.Plus />
      </button>
      <button
        type="button"
        className="btn icon"
        aria-label="Zoom out"
        onClick={() => board.current?.zoom(1 / 1.25)}
      >
        <icons.Minus />
      </button>
      <button
        type="button"
        className="btn icon"
        aria-label="Fit the graph"
        onClick={() => board.current?.fit()}
      >
        <icons.Fit />
      </button>
    </div>
  );
}
