import { expect, test } from "vitest";
import type { TaskResult } from "../../src/api/_generated_operations";
import { agoText, bytesText, durationText, moneyText } from "../../src/model/format";
import { readDocument } from "../../src/model/run_document";
import { groupsOf } from "../../src/model/run_groups";
import { executorOf } from "../../src/model/task_node";

function run(id: string, more: Partial<TaskResult> = {}): TaskResult {
  return { id, name: id, label: null, tags: [], status: "completed", original_task_id: null, has_copy: false, ...more } as TaskResult;
}

test("a run with several tags is in several groups, in the order of the newest run", () => {
  const groups = groupsOf([run("c", { tags: ["y", "x"] }), run("b"), run("a", { tags: ["x"], status: "failed" })], "tag");
  expect(groups.map((group) => [group.title, group.runs.map((each) => each.id)])).toEqual([["y", ["c"]], ["x", ["c", "a"]], ["", ["b"]]]);
  expect(groups[1]?.byStatus).toEqual({ completed: 1, failed: 1 });
});

test("copies are in the group of the tree that they are copies of", () => {
  const groups = groupsOf([run("c", { original_task_id: "a" }), run("b"), run("a", { has_copy: true, label: "Import" })], "original");
  expect(groups.map((group) => [group.title, group.runs.map((each) => each.id)])).toEqual([["Import", ["c", "a"]], ["", ["b"]]]);
});

test("durations are short", () => {
  expect([0, 820, 4200, 59_900, 200_000, 7_500_000, 273_600_000].map(durationText)).toEqual(["0 ms", "820 ms", "4.2 s", "1 m", "3 m 20 s", "2 h 5 m", "3 d 4 h"]);
});

test("times are before or after now", () => {
  expect([agoText(0, 500), agoText(0, 90_000), agoText(7_200_000, 0)]).toEqual(["now", "1 m ago", "in 2 h"]);
});

test("money and bytes are rounded to what matters", () => {
  expect([0, 0.0042, 1.5, 123.4].map(moneyText)).toEqual(["$0", "$0.004", "$1.50", "$123"]);
  expect([512, 2048, 5_000_000].map(bytesText)).toEqual(["512 B", "2.0 KiB", "4.8 MiB"]);
});

test("the executor of a task is decided as the server decides it", () => {
  const task = { name: "n", params: {}, schemas: {}, policy: {}, has_children: false };
  expect(executorOf(task)).toBe("n");
  expect(executorOf({ ...task, schemas: { method: "m" } })).toBe("m");
  expect(executorOf({ ...task, schemas: { method: "m" }, params: { executor_id: "p" } })).toBe("p");
  expect(executorOf({ ...task, has_children: true })).toBeNull();
});

test("a document that this page cannot read is refused with the reason", () => {
  expect(readDocument("{")).toContain("damaged");
  expect(readDocument("null")).toContain("no run");
  expect(readDocument('{"format": "other"}')).toContain("not contain a run");
  expect(readDocument('{"format": "apflow-run", "version": 2, "root_id": "a", "tasks": []}')).toContain("version 2");
  expect(readDocument('{"format": "apflow-run", "version": 1, "root_id": "a", "tasks": []}')).toMatchObject({ root_id: "a", logs: {} });
});
