/** Places the shapes of a graph, beside the page's thread. */
import { Graph, layout } from "@dagrejs/dagre";

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
  const graph = new Graph();
  graph.setGraph({ rankdir: "LR", nodesep: 18, ranksep: 62, marginx: 16, marginy: 16 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const { id, width, height } of data.shapes) graph.setNode(id, { width, height });
  for (const { source, target } of data.edges) graph.setEdge(source, target);
  layout(graph);
  const places = data.shapes.map(({ id, width, height }): LayoutAnswer["places"][number] => {
    const { x, y } = graph.node(id) as { x: number; y: number };
    return [id, x - width / 2, y - height / 2];
  });
  postMessage({ id: data.id, places } satisfies LayoutAnswer);
});
