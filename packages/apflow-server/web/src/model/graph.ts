/** A run as a graph: what is drawn, and where, by dependency or by time. Pure. */
import type { TreeIndex } from "./rows";
import type { TaskNode } from "./task_node";
import { type TimeAxis, placeOf } from "./time_axis";

export const BOX_WIDTH = 176;
export const BOX_HEIGHT = 36;
/** A run with more tasks is not drawn: the graph would be unreadable, and the timeline shows all of them. */
export const MAX_TASKS = 2_000;

export interface Edge {
  from: string;
  to: string;
  /** Whether it leads from a group to what it holds; otherwise from what is needed to what needs it. */
  isHolding: boolean;
}

export interface Box {
  id: string;
  x: number;
  y: number;
  width: number;
  height: number;
}

export interface Line {
  edge: Edge;
  points: readonly { x: number; y: number }[];
}

export interface Drawing {
  width: number;
  height: number;
  boxes: Box[];
  lines: Line[];
}

export interface LayoutRequest {
  ids: string[];
  edges: Edge[];
}

/** Return the edges of a run. */
export function edgesOf(nodes: ReadonlyMap<string, TaskNode>, rootId: string): Edge[] {
  const edges: Edge[] = [];
  for (const node of nodes.values()) {
    for (const id of node.dependencies) if (nodes.has(id)) edges.push({ from: id, to: node.id, isHolding: false });
    const hasSiblingBefore = node.dependencies.some((id) => nodes.get(id)?.parentId === node.parentId);
    if (node.id !== rootId && node.parentId !== null && !hasSiblingBefore) edges.push({ from: node.parentId, to: node.id, isHolding: true });
  }
  return edges;
}

const LANE = 30;
const TIME_WIDTH = 1_600;
const MIN_WIDTH = 6;
const GAP = 6;

/** Return the tasks by time: each in the first lane that is free, as wide as its duration. Groups are left out. */
export function drawByTime(nodes: ReadonlyMap<string, TaskNode>, index: TreeIndex, axis: TimeAxis, present: number): Drawing {
  const boxes: Box[] = [];
  const lanes: number[] = [];
  const started = [...nodes.values()].filter((node) => node.startedAt !== null && !index.children.has(node.id));
  for (const node of started.sort((one, other) => (one.startedAt ?? 0) - (other.startedAt ?? 0))) {
    const x = placeOf(axis, node.startedAt ?? 0) * TIME_WIDTH;
    const end = placeOf(axis, node.completedAt ?? present) * TIME_WIDTH;
    const width = Math.max(MIN_WIDTH, end - x);
    let lane = lanes.findIndex((until) => until <= x);
    if (lane < 0) lane = lanes.push(0) - 1;
    lanes[lane] = x + width + GAP;
    boxes.push({ id: node.id, x, y: lane * LANE, width, height: LANE - GAP });
  }
  const byId = new Map(boxes.map((box) => [box.id, box]));
  return { width: TIME_WIDTH, height: Math.max(1, lanes.length) * LANE, boxes, lines: linesBetween(nodes, byId) };
}

function linesBetween(nodes: ReadonlyMap<string, TaskNode>, boxes: ReadonlyMap<string, Box>): Line[] {
  const lines: Line[] = [];
  for (const [id, box] of boxes) {
    for (const from of nodes.get(id)?.dependencies ?? []) {
      const source = boxes.get(from);
      if (source === undefined) continue;
      const start = { x: source.x + source.width, y: source.y + source.height / 2 };
      const end = { x: box.x, y: box.y + box.height / 2 };
      const points = start.y === end.y ? [start, end] : [start, { x: start.x, y: end.y }, end];
      lines.push({ edge: { from, to: id, isHolding: false }, points });
    }
  }
  return lines;
}
