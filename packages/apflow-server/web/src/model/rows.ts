/** Which rows of a tree are shown: folding and filtering. Pure. */
import type { TaskNode } from "./task_node";

export interface TreeRow {
  id: string;
  depth: number;
  /** Position among its siblings, from 1, and their number, as screen readers announce them. */
  position: number;
  siblings: number;
  hasChildren: boolean;
  isFolded: boolean;
}

export interface TreeIndex {
  rootId: string;
  children: ReadonlyMap<string, readonly string[]>;
}

/** Return the children of each task, in the order in which the tasks were created. */
export function indexOf(nodes: Iterable<TaskNode>, rootId: string): TreeIndex {
  const children = new Map<string, string[]>();
  for (const node of nodes) {
    if (node.parentId === null || node.id === rootId) continue;
    const siblings = children.get(node.parentId);
    if (siblings) siblings.push(node.id);
    else children.set(node.parentId, [node.id]);
  }
  return { rootId, children };
}

/**
 * Return the rows to show, in the order of the tree.
 *
 * With `matches`, those are the tasks that match and their ancestors, whatever is folded.
 */
export function rowsOf(index: TreeIndex, folded: ReadonlySet<string>, matches: ((id: string) => boolean) | null): TreeRow[] {
  const kept = matches === null ? null : keptOf(index, matches);
  const rows: TreeRow[] = [];
  const unseen: TreeRow[] = [rowOf(index, folded, index.rootId, 0, 1, 1)];
  for (let row = unseen.pop(); row !== undefined; row = unseen.pop()) {
    if (kept !== null && !kept.has(row.id)) continue;
    rows.push(row);
    if (row.isFolded && kept === null) continue;
    const children = index.children.get(row.id) ?? [];
    for (let at = children.length - 1; at >= 0; at--) {
      unseen.push(rowOf(index, folded, children[at] as string, row.depth + 1, at + 1, children.length));
    }
  }
  return rows;
}

/** Return the IDs of the tasks below a task, in no particular order. */
export function below(index: TreeIndex, id: string): string[] {
  const found: string[] = [];
  const unseen = [...(index.children.get(id) ?? [])];
  for (let each = unseen.pop(); each !== undefined; each = unseen.pop()) {
    found.push(each);
    unseen.push(...(index.children.get(each) ?? []));
  }
  return found;
}

function rowOf(index: TreeIndex, folded: ReadonlySet<string>, id: string, depth: number, position: number, siblings: number): TreeRow {
  const hasChildren = index.children.has(id);
  return { id, depth, position, siblings, hasChildren, isFolded: hasChildren && folded.has(id) };
}

/** Return the tasks that match, with their ancestors. */
function keptOf(index: TreeIndex, matches: (id: string) => boolean): Set<string> {
  const kept = new Set<string>();
  const order: string[] = [];
  const unseen = [index.rootId];
  for (let id = unseen.pop(); id !== undefined; id = unseen.pop()) {
    order.push(id);
    unseen.push(...(index.children.get(id) ?? []));
  }
  for (const id of order.reverse()) {
    if (matches(id) || (index.children.get(id) ?? []).some((child) => kept.has(child))) kept.add(id);
  }
  kept.add(index.rootId);
  return kept;
}
