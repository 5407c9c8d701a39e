/** The states of a task, in the order in which they are shown. */
import type { TaskStatus } from "../api/_generated_operations";

export const STATUSES: readonly TaskStatus[] = ["in_progress", "failed", "pending", "completed", "skipped", "cancelled"];

export const STATUS_TEXT: Record<TaskStatus, string> = {
  pending: "Pending",
  in_progress: "Running",
  completed: "Completed",
  failed: "Failed",
  cancelled: "Cancelled",
  skipped: "Skipped",
};

export function isEnd(status: TaskStatus): boolean {
  return status !== "pending" && status !== "in_progress";
}

export function isStatus(text: string): text is TaskStatus {
  return text in STATUS_TEXT;
}
