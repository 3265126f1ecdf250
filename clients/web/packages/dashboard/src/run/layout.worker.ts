/** Places the shapes of a graph, beside the page's thread. */
import { Graph, layout } from "@dagrejs/dagre";
import { columns } from "./columns.ts";

/** Larger drawings would take dagre seconds to minutes. */
const MAX_SHAPES = 400;

export interface LayoutRequest {
  id: number;
  shapes: { id: string; width: number; height: number }[];
  edges: { source: string; target: string }[];
}

export interface LayoutAnswer {
  id: number;
  places: [id: string, x: number, y: number][];
}

addEventListener("message", ({ data }: MessageEvent<LayoutRequest>) => {
  const { id, shapes, edges } = data;
  const places = shapes.length > MAX_SHAPES ? columns(shapes, edges) : ranked(data);
  postMessage({ id, places } satisfies LayoutAnswer);
});

function ranked(data: LayoutRequest): LayoutAnswer["places"] {
  const graph = new Graph();
  graph.setGraph({ rankdir: "LR", nodesep: 18, ranksep: 62, marginx: 16, marginy: 16 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const { id, width, height } of data.shapes) graph.setNode(id, { width, height });
  for (const { source, target } of data.edges) graph.setEdge(source, target);
  layout(graph);
  return data.shapes.map(({ id, width, height }) => {
    const { x, y } = graph.node(id) as { x: number; y: number };
    return [id, x - width / 2, y - height / 2];
  });
}
