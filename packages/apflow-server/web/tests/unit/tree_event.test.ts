import { expect, test } from "vitest";
import { applyEvent, createdNode, type RawEvent, treeEventOf } from "../../src/model/tree_event";
import { node } from "./builders";

function event(type: string, more: Partial<RawEvent> = {}) {
  return treeEventOf({ type, task_id: "a", sequence: 1, timestamp: "1970-01-01T00:00:05Z", status: null, progress: null, message: null, data: null, error: null, ...more });
}

test("a task starts, is tried again, and completes", () => {
  const task = node("a");
  applyEvent(task, event("task_started", { status: "in_progress" }));
  expect([task.status, task.attempts, task.startedAt]).toEqual(["in_progress", 1, 5000]);
  applyEvent(task, event("retrying", { status: "in_progress", error: "broken", data: { wait: 2, attempt: 1 } }));
  expect([task.waitsFor, task.waitsUntil, task.attempts, task.error]).toEqual(["retry", 7000, 2, "broken"]);
  applyEvent(task, event("task_completed", { status: "completed", progress: 1, timestamp: "1970-01-01T00:00:09Z" }));
  expect([task.status, task.completedAt, task.startedAt, task.waitsFor, task.error]).toEqual(["completed", 9000, 5000, null, null]);
});

test("a group has no attempts", () => {
  const group = node("a", { executor: null });
  applyEvent(group, event("task_started", { status: "in_progress" }));
  expect(group.attempts).toBe(0);
});

test("a reset task is as new", () => {
  const task = node("a", { status: "failed", startedAt: 1, completedAt: 2, attempts: 3, error: "broken", progress: 1 });
  applyEvent(task, event("task_reset", { status: "pending", progress: 0 }));
  expect([task.status, task.startedAt, task.completedAt, task.attempts, task.error]).toEqual(["pending", null, null, 0, null]);
});

test("a task waits for its approval until it is decided", () => {
  const task = node("a", { status: "in_progress" });
  applyEvent(task, event("approval_requested", { data: { question: "?" } }));
  expect(task.waitsFor).toBe("approval");
  applyEvent(task, event("approval_decided", { data: { approved: true } }));
  expect(task.waitsFor).toBeNull();
});

test("an event of the tree does not change its root", () => {
  const root = node("a", { status: "in_progress" });
  applyEvent(root, event("tree_failed", { status: "failed" }));
  expect(root.status).toBe("in_progress");
});

test("a created task has its name and its parent", () => {
  const task = createdNode(event("task_created", { status: "pending", data: { name: "load", parent_id: "p" } }));
  expect([task.name, task.parentId, task.status]).toEqual(["load", "p", "pending"]);
});

test("an event of an unknown type changes nothing but what every event has", () => {
  const task = node("a", { status: "in_progress" });
  applyEvent(task, event("news", { progress: 0.5 }));
  expect([task.status, task.progress]).toEqual(["in_progress", 0.5]);
});
