/** Layout of a graph by dependency, with dagre. */
import { Graph, layout } from "@dagrejs/dagre";
import { BOX_HEIGHT, BOX_WIDTH, type Drawing, type LayoutRequest } from "../model/graph";

/** Return where the tasks and the lines between them are. Takes seconds for thousands of tasks. */
export function dagreLayout({ ids, edges }: LayoutRequest): Drawing {
  const graph = new Graph({ multigraph: false });
  graph.setGraph({ rankdir: "LR", nodesep: 12, ranksep: 48, ranker: ids.length > 400 ? "longest-path" : "network-simplex" });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const id of ids) graph.setNode(id, { width: BOX_WIDTH, height: BOX_HEIGHT });
  for (const edge of edges) graph.setEdge(edge.from, edge.to, {});
  layout(graph);
  const boxes = ids.map((id) => {
    const { x = 0, y = 0 } = graph.node(id) as { x?: number; y?: number };
    return { id, x: x - BOX_WIDTH / 2, y: y - BOX_HEIGHT / 2, width: BOX_WIDTH, height: BOX_HEIGHT };
  });
  const lines = edges.map((edge) => {
    const { points = [] } = graph.edge(edge.from, edge.to) as { points?: { x: number; y: number }[] };
    return { edge, points };
  });
  const { width = 0, height = 0 } = graph.graph() as { width?: number; height?: number };
  return { width, height, boxes, lines };
}
