/** Nested trees, as the server returns them, made flat. Pure. */
import type { TaskResult, TreeResult } from "../api/_generated_operations";
import { nodeOf, type TaskNode } from "./task_node";

/** Return the tasks of a nested tree in the order of the tree. */
export function nodesOf(tree: TaskResult): TaskNode[] {
  const nodes: TaskNode[] = [];
  const unseen: TaskResult[] = [tree];
  for (let task = unseen.pop(); task !== undefined; task = unseen.pop()) {
    nodes.push(nodeOf(task));
    const children = ((task as TreeResult).children ?? []) as unknown as TaskResult[];
    for (let at = children.length - 1; at >= 0; at--) unseen.push(children[at] as TaskResult);
  }
  return nodes;
}
