/** What the graph of a run draws: steps, and piles of steps that are alike. Pure. */
import type { GraphDocument } from "../data/types.ts";
import type { Step } from "./fold.ts";

export interface Shape {
  id: string;
  kind: "step" | "pile";
  title: string;
  type: string;
  /** The steps that a pile stands for. */
  members: string[];
  width: number;
  height: number;
}

export interface Drawing {
  shapes: Shape[];
  edges: { source: string; target: string }[];
  /** The shape that shows a node. */
  shapeOf: Map<string, string>;
  /** Equal for drawings with equal places. */
  key: string;
}

/** Graphs up to this size are drawn step by step. */
const SMALL = 30;
/** More steps of one layer and type than this become a pile. */
const WIDE = 6;
/** Failures of a pile that stand beside it. */
const POPPED = 3;
const CELLS_A_ROW = 24;
export const STEP = { width: 176, height: 50 };

export const pileHeight = (members: number): number =>
  64 + Math.min(Math.ceil(members / CELLS_A_ROW), 12) * 8;

export function drawingOf(
  graph: GraphDocument,
  steps: ReadonlyMap<string, Step>,
  opened: ReadonlySet<string>,
): Drawing {
  const nodes = new Map(graph.nodes.map((node) => [node.id, node]));
  const shapes: Shape[] = [];
  const shapeOf = new Map<string, string>();
  const add = (shape: Shape, shown: string[]) => {
    shapes.push(shape);
    for (const id of shown) shapeOf.set(id, shape.id);
  };
  const addStep = (id: string) => {
    const node = nodes.get(id);
    const items = steps.get(id)?.items ?? 0;
    const members = Array.from({ length: items }, (_, index) => `${id}[${index}]`);
    add(
      items
        ? {
            ...{ id, kind: "pile", title: node?.name ?? id, type: node?.type ?? "", members },
            ...{ width: 224, height: pileHeight(items) },
          }
        : { ...STEP, id, kind: "step", title: node?.name ?? id, type: node?.type ?? "", members },
      [id, ...members],
    );
  };
  graph.layers.forEach((layer, index) => {
    for (const [type, ids] of byType(layer, nodes)) {
      const pile = `pile:${index}:${type}`;
      if (graph.nodes.length <= SMALL || ids.length <= WIDE || opened.has(pile)) {
        for (const id of ids) addStep(id);
        continue;
      }
      const popped = ids.filter((id) => steps.get(id)?.status === "error").slice(0, POPPED);
      const members = ids.filter((id) => !popped.includes(id));
      const title = `${ids.length.toLocaleString("en")} × ${type}`;
      const size = { width: 224, height: pileHeight(members.length) };
      add({ id: pile, kind: "pile", title, type, members, ...size }, members);
      for (const id of popped) addStep(id);
    }
  });
  const edges = new Map<string, { source: string; target: string }>();
  for (const edge of graph.edges) {
    const source = shapeOf.get(edge.source);
    const target = shapeOf.get(edge.target);
    if (source && target && source !== target) edges.set(`${source}→${target}`, { source, target });
  }
  const key = shapes.map((shape) => `${shape.id}*${shape.members.length}`).join("|");
  return { shapes, edges: [...edges.values()], shapeOf, key };
}

function push(lists: Map<string, string[]>, key: string, value: string): void {
  const list = lists.get(key);
  if (list) list.push(value);
  else lists.set(key, [value]);
}

/** Return what each node needs, by its id. */
export function needsOf(graph: GraphDocument): Map<string, string[]> {
  const needs = new Map<string, string[]>();
  for (const { source, target } of graph.edges) push(needs, target, source);
  return needs;
}

function byType(
  layer: readonly string[],
  nodes: ReadonlyMap<string, GraphDocument["nodes"][number]>,
): Map<string, string[]> {
  const groups = new Map<string, string[]>();
  for (const id of layer) push(groups, nodes.get(id)?.type ?? "", id);
  return groups;
}

/** Return all nodes that lead to a node, or that it leads to. */
export function relativesOf(graph: GraphDocument, id: string): Set<string> {
  const up = needsOf(graph);
  const down = new Map<string, string[]>();
  for (const { source, target } of graph.edges) push(down, source, target);
  const found = new Set([id]);
  for (const next of [up, down]) {
    const open = [id];
    for (let node = open.pop(); node !== undefined; node = open.pop()) {
      for (const each of next.get(node) ?? []) {
        if (!found.has(each)) open.push(each);
        found.add(each);
      }
    }
  }
  return found;
}

/** Return these nodes and all nodes that depend on them. */
export function descendantsOf(graph: GraphDocument, ids: readonly string[]): Set<string> {
  const found = new Set(ids);
  // Layers are in topological order, so one pass over them is enough.
  const needs = needsOf(graph);
  for (const node of graph.layers.flat()) {
    if (needs.get(node)?.some((each) => found.has(each))) found.add(node);
  }
  return found;
}
