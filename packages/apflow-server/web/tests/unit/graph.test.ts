import { expect, test } from "vitest";
import { dagreLayout } from "../../src/graph/dagre_layout";
import { drawByTime, edgesOf } from "../../src/model/graph";
import { axisOf } from "../../src/model/time_axis";
import { node, tree } from "./builders";

test("edges are the dependencies, and what holds the tasks that depend on nothing beside them", () => {
  const { nodes } = tree({ root: null, a: "root", b: "root" });
  nodes.set("b", node("b", { parentId: "root", dependencies: ["a", "gone"] }));
  expect(edgesOf(nodes, "root")).toEqual([
    { from: "root", to: "a", isHolding: true },
    { from: "a", to: "b", isHolding: false },
  ]);
});

test("in a layout by dependency, a task is to the right of what it needs", () => {
  const drawing = dagreLayout({ ids: ["a", "b", "c"], edges: [{ from: "a", to: "b", isHolding: false }, { from: "b", to: "c", isHolding: false }] });
  const x = drawing.boxes.map((box) => box.x);
  expect(x).toEqual([...x].sort((one, other) => one - other));
  expect(new Set(x).size).toBe(3);
  expect(drawing.lines.every((line) => line.points.length >= 2)).toBe(true);
});

test("in a layout by time, tasks of one lane do not overlap", () => {
  const { nodes, index } = tree({ root: null });
  for (let at = 0; at < 50; at++) nodes.set(`t${at}`, node(`t${at}`, { parentId: "root", startedAt: (at * 7919) % 1000, completedAt: ((at * 7919) % 1000) + 100 }));
  nodes.get("root")!.startedAt = 0;
  const drawing = drawByTime(nodes, { ...index, children: new Map([["root", []]]) }, axisOf({ from: 0, to: 1100 }, [], false), 1100);
  expect(drawing.boxes).toHaveLength(50);
  for (const one of drawing.boxes) {
    const others = drawing.boxes.filter((other) => other !== one && other.y === one.y);
    expect(others.every((other) => other.x >= one.x + one.width || other.x + other.width <= one.x)).toBe(true);
  }
});
