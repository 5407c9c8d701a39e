/** What happens to a run, applied to its tasks. Pure. */
import type { Json, TaskStatus } from "../api/_generated_operations";
import { cut, timeOf, type TaskNode } from "./task_node";

/** An event of the stream, without what the page does not keep. */
export interface TreeEvent {
  type: string;
  taskId: string;
  sequence: number;
  at: number;
  status: TaskStatus | null;
  progress: number | null;
  message: string | null;
  data: Record<string, Json>;
  error: string | null;
  isFinal: boolean;
}

export interface RawEvent {
  type: string;
  task_id: string;
  sequence: number;
  timestamp: string;
  status: TaskStatus | null;
  progress: number | null;
  message: string | null;
  data: Json;
  error: string | null;
  final?: boolean;
}

/** Return an event as the page uses it. */
export function treeEventOf(raw: RawEvent): TreeEvent {
  const isObject = raw.data !== null && typeof raw.data === "object" && !Array.isArray(raw.data);
  return {
    type: raw.type,
    taskId: raw.task_id,
    sequence: raw.sequence,
    at: timeOf(raw.timestamp) ?? 0,
    status: raw.status,
    progress: raw.progress,
    message: raw.message === null ? null : cut(raw.message, 200),
    data: isObject ? (raw.data as Record<string, Json>) : {},
    error: raw.error === null ? null : cut(raw.error, 400),
    isFinal: raw.final === true,
  };
}

/** Return the task that an event says was created. What the event does not say is read later. */
export function createdNode(event: TreeEvent): TaskNode {
  const { name, parent_id: parentId } = event.data;
  return {
    id: event.taskId,
    key: event.taskId,
    parentId: typeof parentId === "string" ? parentId : null,
    name: typeof name === "string" ? cut(name, 255) : event.taskId,
    label: null,
    tags: [],
    status: event.status ?? "pending",
    progress: 0,
    error: null,
    attempts: 0,
    createdAt: event.at,
    startedAt: null,
    completedAt: null,
    dependencies: [],
    executor: typeof name === "string" ? name : null,
    message: null,
    waitsFor: null,
    waitsUntil: null,
    childTrees: [],
    cachedFrom: null,
    priority: 2,
  };
}

/** Change a task as an event says. Events of the tree itself change no task. */
export function applyEvent(node: TaskNode, event: TreeEvent): void {
  if (event.type.startsWith("tree_")) return;
  if (event.status !== null) node.status = event.status;
  if (event.progress !== null) node.progress = event.progress;
  if (event.message !== null) node.message = event.message;
  APPLIES[event.type]?.(node, event);
}

const APPLIES: Record<string, (node: TaskNode, event: TreeEvent) => void> = {
  task_started: (node, event) => {
    if (node.startedAt === null || node.completedAt !== null) node.startedAt = event.at;
    node.completedAt = null;
    node.error = null;
    if (node.executor !== null) node.attempts += 1;
    noWait(node);
  },
  retrying: (node, event) => {
    node.error = event.error;
    // No event says that the next attempt starts: it does when the wait is over.
    if (typeof event.data["attempt"] === "number") node.attempts = event.data["attempt"] + 1;
    node.waitsFor = "retry";
    node.waitsUntil = typeof event.data["wait"] === "number" ? event.at + event.data["wait"] * 1000 : null;
  },
  task_reset: (node) => {
    node.status = "pending";
    node.progress = 0;
    node.error = null;
    node.attempts = 0;
    node.startedAt = node.completedAt = null;
    node.message = null;
    noWait(node);
  },
  task_completed: ended,
  task_failed: ended,
  task_cancelled: ended,
  task_skipped: ended,
  task_marked: ended,
  approval_requested: (node) => void (node.waitsFor = "approval"),
  approval_decided: noWait,
  budget_exceeded: (node) => void (node.waitsFor = "budget"),
};

function ended(node: TaskNode, event: TreeEvent): void {
  node.completedAt = event.at;
  node.error = event.error;
  noWait(node);
}

function noWait(node: TaskNode): void {
  node.waitsFor = null;
  node.waitsUntil = null;
}
