/** Finding tasks within a run, by text and by status. Pure. */
import type { TaskStatus } from "../api/_generated_operations";
import type { TaskNode } from "./task_node";

export interface TaskFilter {
  text: string;
  status: TaskStatus | null;
}

export const NO_FILTER: TaskFilter = { text: "", status: null };

/** Return what decides whether a task matches, or null if every task does. */
export function matcherOf(filter: TaskFilter, nodes: ReadonlyMap<string, TaskNode>): ((id: string) => boolean) | null {
  const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0 && filter.status === null) return null;
  return (id) => {
    const node = nodes.get(id);
    if (node === undefined || (filter.status !== null && node.status !== filter.status)) return false;
    const text = `${node.name} ${node.label ?? ""} ${node.key} ${node.executor ?? ""} ${node.error ?? ""}`.toLowerCase();
    return words.every((word) => text.includes(word));
  };
}
