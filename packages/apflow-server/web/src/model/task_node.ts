/** A task of a run as the page keeps it: what rows and bars need, without inputs and results. Pure. */
import type { Json, TaskResult, TaskStatus } from "../api/_generated_operations";

export interface TaskNode {
  readonly id: string;
  readonly key: string;
  readonly parentId: string | null;
  name: string;
  label: string | null;
  tags: readonly string[];
  status: TaskStatus;
  progress: number;
  error: string | null;
  /** Attempts of the present execution. */
  attempts: number;
  /** Milliseconds since 1970, as all times of the page. */
  createdAt: number | null;
  startedAt: number | null;
  completedAt: number | null;
  dependencies: readonly string[];
  /** The executor, or null for a task that only holds others. */
  executor: string | null;
  /** The last message of the task about its progress. */
  message: string | null;
  /** What a task that is in progress waits for. */
  waitsFor: "retry" | "approval" | "budget" | null;
  waitsUntil: number | null;
  childTrees: readonly string[];
  cachedFrom: string | null;
  priority: number;
}

const MAX_ERROR = 400;
const MAX_TEXT = 255;

/** Return what the page keeps of a task. */
export function nodeOf(task: TaskResult): TaskNode {
  return {
    id: task.id,
    key: task.key,
    parentId: task.parent_id,
    name: cut(task.name, MAX_TEXT),
    label: task.label ? cut(task.label, MAX_TEXT) : null,
    tags: task.tags ?? [],
    status: task.status,
    progress: task.progress,
    error: task.error === null ? null : cut(task.error, MAX_ERROR),
    attempts: task.attempts,
    createdAt: timeOf(task.created_at),
    startedAt: timeOf(task.started_at),
    completedAt: timeOf(task.completed_at),
    dependencies: dependenciesOf(task.dependencies),
    executor: executorOf(task),
    message: null,
    // The task itself does not say what it waits for; for other executors, the list of approvals does.
    waitsFor: task.status === "in_progress" && executorOf(task) === "approval_executor" ? "approval" : null,
    waitsUntil: null,
    childTrees: task.child_trees ?? [],
    cachedFrom: task.cached_from ?? null,
    priority: task.priority,
  };
}

/** Return what a task is called for people. */
export function titleOf(task: { label?: string | null; name: string }): string {
  return task.label ?? task.name;
}

/** Return a time in ISO 8601 as milliseconds since 1970. */
export function timeOf(text: string | null | undefined): number | null {
  if (!text) return null;
  const time = Date.parse(text);
  return Number.isNaN(time) ? null : time;
}

export function cut(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length)}…` : text;
}

/** Return the executor that a task names; see "Fields of a task" in the reference. */
export function executorOf(task: Pick<TaskResult, "params" | "schemas" | "name" | "has_children" | "policy">): string | null {
  const named = task.params["executor_id"] ?? task.schemas["method"];
  if (typeof named === "string") return named;
  return task.has_children || task.policy["for_each"] ? null : task.name;
}

function dependenciesOf(given: Record<string, Json>[]): string[] {
  return given.map((each) => each["id"]).filter((id): id is string => typeof id === "string");
}
