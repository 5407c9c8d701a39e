/** What a task did at which time: the parts of its bar. Pure. */
import type { AttemptResult } from "../api/_generated_operations";
import { timeOf, type TaskNode } from "./task_node";

export type SegmentKind = "queued" | "running" | "failed_attempt" | "retry" | "waiting" | "ended";

export interface Segment {
  kind: SegmentKind;
  from: number;
  to: number;
  /** The number of the attempt, where it is one. */
  attempt: number | null;
}

/** Which attempts are shown: all, the last one of each task, or those with a number. */
export type AttemptChoice = "all" | "last" | number;

/**
 * Return the parts of the bar of a task, in the order of time.
 *
 * @param ready when everything that the task depends on had ended, or null if that is not known.
 * @param attempts those of the task, if they are loaded.
 */
export function segmentsOf(
  node: TaskNode,
  attempts: readonly AttemptResult[] | undefined,
  ready: number | null,
  now: number,
  choice: AttemptChoice = "all",
): Segment[] {
  const parts = attempts?.length ? partsOfAttempts(node, attempts, now) : partsOfTask(node, now);
  const shown = chosen(parts, choice);
  const first = shown[0];
  if (choice === "all" && ready !== null && first && first.from > ready) {
    return [{ kind: "queued", from: ready, to: first.from, attempt: null }, ...shown];
  }
  return shown;
}

/** Return when everything that a task depends on had ended, or the start of the run for a task that depends on nothing. */
export function readyAt(node: TaskNode, nodes: ReadonlyMap<string, TaskNode>, runStart: number | null): number | null {
  let latest = runStart;
  for (const id of node.dependencies) {
    const ended = nodes.get(id)?.completedAt ?? null;
    if (ended === null) return null;
    if (latest === null || ended > latest) latest = ended;
  }
  return latest;
}

function partsOfTask(node: TaskNode, now: number): Segment[] {
  if (node.startedAt === null) return [];
  const to = node.completedAt ?? (node.status === "in_progress" ? now : node.startedAt);
  const kind = node.waitsFor === "retry" ? "retry" : node.waitsFor !== null ? "waiting" : "running";
  return [{ kind, from: node.startedAt, to: Math.max(to, node.startedAt), attempt: node.attempts || null }];
}

function partsOfAttempts(node: TaskNode, attempts: readonly AttemptResult[], now: number): Segment[] {
  const parts: Segment[] = [];
  for (const attempt of attempts) {
    const from = timeOf(attempt.started_at);
    if (from === null) continue;
    const before = parts.at(-1);
    if (before && from > before.to) parts.push({ kind: "retry", from: before.to, to: from, attempt: null });
    const isRunning = attempt.ended_at === null && node.status === "in_progress";
    const to = timeOf(attempt.ended_at) ?? (isRunning ? now : (node.completedAt ?? from));
    const hasFailed = attempt.outcome !== null && attempt.outcome !== "completed";
    const kind = hasFailed ? "failed_attempt" : isRunning && node.waitsFor !== null ? "waiting" : "running";
    parts.push({ kind, from, to: Math.max(from, to), attempt: attempt.number });
  }
  const last = parts.at(-1);
  if (last?.kind === "failed_attempt" && node.status === "in_progress" && now > last.to) {
    parts.push({ kind: "retry", from: last.to, to: now, attempt: null });
  }
  return parts;
}

function chosen(parts: Segment[], choice: AttemptChoice): Segment[] {
  if (choice === "all") return parts;
  const numbers = parts.map((part) => part.attempt).filter((number): number is number => number !== null);
  const number = choice === "last" ? Math.max(...numbers) : choice;
  return parts.filter((part) => part.attempt === number);
}
