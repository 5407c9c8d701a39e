import { expect, test } from "vitest";
import { below, indexOf, rowsOf } from "../../src/model/rows";
import { matcherOf, NO_FILTER } from "../../src/model/task_filter";
import { tree } from "./builders";

const { nodes, index } = tree({ root: null, a: "root", a1: "a", a2: "a", b: "root" });

test("rows come in the order of the tree, with their depth and position", () => {
  const rows = rowsOf(index, new Set(), null);
  expect(rows.map((row) => [row.id, row.depth, row.position, row.siblings])).toEqual([
    ["root", 0, 1, 1],
    ["a", 1, 1, 2],
    ["a1", 2, 1, 2],
    ["a2", 2, 2, 2],
    ["b", 1, 2, 2],
  ]);
});

test("what is in a folded task is not shown", () => {
  const rows = rowsOf(index, new Set(["a"]), null);
  expect(rows.map((row) => row.id)).toEqual(["root", "a", "b"]);
  expect(rows[1]?.isFolded).toBe(true);
});

test("a filter shows what matches with its ancestors, whatever is folded", () => {
  const matches = matcherOf({ ...NO_FILTER, text: "a2" }, nodes);
  expect(rowsOf(index, new Set(["a"]), matches).map((row) => row.id)).toEqual(["root", "a", "a2"]);
});

test("a filter matches each word in any of the texts of a task", () => {
  const task = nodes.get("a1");
  if (task) Object.assign(task, { label: "Load orders", error: "Status 503" });
  const matches = matcherOf({ ...NO_FILTER, text: "503 LOAD" }, nodes);
  expect([...nodes.keys()].filter((id) => matches?.(id))).toEqual(["a1"]);
});

test("without a filter nothing decides which tasks match", () => {
  expect(matcherOf(NO_FILTER, nodes)).toBeNull();
});

test("what is below a task is everything that it holds", () => {
  expect(below(index, "root").sort()).toEqual(["a", "a1", "a2", "b"]);
  expect(below(index, "b")).toEqual([]);
});

test("tasks in a deep tree need no deep recursion", () => {
  const parents: Record<string, string | null> = { t0: null };
  for (let at = 1; at < 20_000; at++) parents[`t${at}`] = `t${at - 1}`;
  const deep = tree(parents);
  expect(rowsOf(indexOf(deep.nodes.values(), "t0"), new Set(), () => true)).toHaveLength(20_000);
});
