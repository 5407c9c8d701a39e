/** A run from the document of an export. */
import type { LogLineResult, TaskResult } from "../api/_generated_operations";
import { below, indexOf } from "../model/rows";
import type { DocumentLine, RunDocument } from "../model/run_document";
import { nodeOf } from "../model/task_node";
import type { RunSource } from "./run_source";

export function documentSource(found: RunDocument): RunSource {
  const tasks = new Map(found.tasks.map((task) => [task.id, task]));
  const nodes = found.tasks.map(nodeOf);
  const index = indexOf(nodes, found.root_id);
  return {
    rootId: found.root_id,
    isReadOnly: true,
    follow: (listener) => {
      listener.nodes(nodes, true, true);
      return () => undefined;
    },
    task: (id) => {
      const task = tasks.get(id);
      return task ? Promise.resolve(task) : Promise.reject(new Error(`The export has no task ${id}.`));
    },
    why: (id) => Promise.resolve(found.why[id] ?? null),
    attempts: (ids) => Promise.resolve(new Map(ids.map((id) => [id, found.attempts[id] ?? []]))),
    logs: (id, attempt, listener) => {
      listener.lines(linesOf(found, tasks, [id, ...below(index, id)], attempt));
      listener.ended();
      return () => undefined;
    },
    cutFields: (id) => found.cut[id] ?? [],
  };
}

/** Return the lines of tasks, in the order of time. */
function linesOf(found: RunDocument, tasks: ReadonlyMap<string, TaskResult>, ids: readonly string[], attempt: number | null): LogLineResult[] {
  const lines: (DocumentLine & { task: TaskResult })[] = [];
  for (const id of ids) {
    const task = tasks.get(id);
    if (task) lines.push(...(found.logs[id] ?? []).map((line) => ({ ...line, task })));
  }
  const shown = attempt === null ? lines : lines.filter((line) => line.attempt === attempt);
  return shown.sort((one, other) => (one.at < other.at ? -1 : one.at > other.at ? 1 : 0)).map(lineOf);
}

function lineOf({ at, level, text, attempt, task }: DocumentLine & { task: TaskResult }, position: number): LogLineResult {
  const known = level as LogLineResult["level"];
  return { number: position, task_id: task.id, key: task.key, name: task.name, attempt, generation: 0, timestamp: at, level: known, source: "logging", logger: null, message: text };
}
