/** Tasks for tests. */
import { type TreeIndex, indexOf } from "../../src/model/rows";
import type { TaskNode } from "../../src/model/task_node";

export function node(id: string, more: Partial<TaskNode> = {}): TaskNode {
  return {
    id, key: id, parentId: null, name: id, label: null, tags: [], status: "pending", progress: 0, error: null, attempts: 0,
    createdAt: 0, startedAt: null, completedAt: null, dependencies: [], executor: id, message: null, waitsFor: null, waitsUntil: null,
    childTrees: [], cachedFrom: null, priority: 2, ...more,
  };
}

/** Return a tree from the parent of each of its tasks. */
export function tree(parents: Record<string, string | null>): { nodes: Map<string, TaskNode>; index: TreeIndex } {
  const nodes = new Map(Object.entries(parents).map(([id, parentId]) => [id, node(id, { parentId })]));
  const root = Object.keys(parents)[0] ?? "";
  return { nodes, index: indexOf(nodes.values(), root) };
}
