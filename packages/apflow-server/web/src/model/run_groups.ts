/** Runs in groups: by a tag, by their name, or by the tree that they are copies of. Pure. */
import type { TaskResult, TaskStatus } from "../api/_generated_operations";
import type { Grouping } from "./run_filter";
import { titleOf } from "./task_node";

export interface RunGroup {
  /** What the runs have in common; empty for those that have nothing of the kind. */
  title: string;
  /** Of the tree that the others are copies of, if they are grouped by it. */
  originalId: string | null;
  runs: TaskResult[];
  byStatus: Partial<Record<TaskStatus, number>>;
}

/** Return the groups, in the order of their newest run. A run with several tags is in several groups. */
export function groupsOf(runs: readonly TaskResult[], grouping: Grouping): RunGroup[] {
  const groups = new Map<string, RunGroup>();
  for (const run of runs) {
    for (const key of keysOf(run, grouping)) {
      const group = groups.get(key) ?? { title: groupTitle(key, runs, grouping), originalId: originalOf(key, grouping), runs: [], byStatus: {} };
      groups.set(key, group);
      const status = run.tree?.status ?? run.status;
      group.runs.push(run);
      group.byStatus[status] = (group.byStatus[status] ?? 0) + 1;
    }
  }
  return [...groups.values()];
}

function keysOf(run: TaskResult, grouping: Grouping): string[] {
  if (grouping === "tag") return run.tags?.length ? run.tags : [""];
  if (grouping === "name") return [run.name];
  return [run.original_task_id ?? (run.has_copy ? run.id : "")];
}

function groupTitle(key: string, runs: readonly TaskResult[], grouping: Grouping): string {
  if (grouping !== "original" || key === "") return key;
  const original = runs.find((run) => run.id === key) ?? runs.find((run) => run.original_task_id === key);
  return original ? titleOf(original) : key;
}

function originalOf(key: string, grouping: Grouping): string | null {
  return grouping === "original" && key !== "" ? key : null;
}
