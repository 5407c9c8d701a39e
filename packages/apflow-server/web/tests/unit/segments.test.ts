import { expect, test } from "vitest";
import type { AttemptResult } from "../../src/api/_generated_operations";
import { readyAt, segmentsOf } from "../../src/model/segments";
import { node } from "./builders";

const at = (seconds: number): string => new Date(seconds * 1000).toISOString();

function attempt(number: number, from: number, to: number | null, outcome: AttemptResult["outcome"]): AttemptResult {
  return { number, started_at: at(from), ended_at: to === null ? null : at(to), outcome, error: null, error_type: null, traceback: null };
}

const kinds = (parts: ReturnType<typeof segmentsOf>) => parts.map((part) => [part.kind, part.from / 1000, part.to / 1000]);

test("a task that has not started has no bar", () => {
  expect(segmentsOf(node("a"), undefined, 0, 10_000)).toEqual([]);
});

test("a task that was ready before it started was queued in between", () => {
  const done = node("a", { status: "completed", startedAt: 2000, completedAt: 5000, attempts: 1 });
  expect(kinds(segmentsOf(done, undefined, 1000, 9000))).toEqual([["queued", 1, 2], ["running", 2, 5]]);
});

test("the bar of a running task ends now", () => {
  const running = node("a", { status: "in_progress", startedAt: 2000, attempts: 1 });
  expect(kinds(segmentsOf(running, undefined, null, 7000))).toEqual([["running", 2, 7]]);
});

test("attempts are apart, with the wait between them", () => {
  const done = node("a", { status: "completed", startedAt: 0, completedAt: 9000, attempts: 2 });
  const attempts = [attempt(1, 0, 2, "failed"), attempt(2, 6, 9, "completed")];
  expect(kinds(segmentsOf(done, attempts, null, 9000))).toEqual([["failed_attempt", 0, 2], ["retry", 2, 6], ["running", 6, 9]]);
});

test("a task that waits for its next attempt waits until now", () => {
  const waiting = node("a", { status: "in_progress", startedAt: 0, attempts: 2, waitsFor: "retry" });
  expect(kinds(segmentsOf(waiting, [attempt(1, 0, 2, "failed")], null, 8000))).toEqual([["failed_attempt", 0, 2], ["retry", 2, 8]]);
});

test("one attempt can be chosen, or the last one", () => {
  const done = node("a", { status: "completed", startedAt: 0, completedAt: 9000, attempts: 2 });
  const attempts = [attempt(1, 0, 2, "failed"), attempt(2, 6, 9, "completed")];
  expect(kinds(segmentsOf(done, attempts, 0, 9000, 1))).toEqual([["failed_attempt", 0, 2]]);
  expect(kinds(segmentsOf(done, attempts, 0, 9000, "last"))).toEqual([["running", 6, 9]]);
  expect(segmentsOf(done, attempts, 0, 9000, 3)).toEqual([]);
});

test("a task is ready when everything that it depends on has ended, and not before", () => {
  const nodes = new Map([node("a", { completedAt: 3000 }), node("b", { completedAt: 5000 }), node("c")].map((each) => [each.id, each]));
  expect(readyAt(node("x", { dependencies: ["a", "b"] }), nodes, 0)).toBe(5000);
  expect(readyAt(node("x", { dependencies: ["a", "c"] }), nodes, 0)).toBeNull();
  expect(readyAt(node("x"), nodes, 1000)).toBe(1000);
});
