import { expect, test } from "vitest";
import { hrefOf, parseRoute, type Route } from "../../src/model/route";
import { parametersOf, queryOfFilter, runFilterOf } from "../../src/model/run_filter";

const ROUTES: Route[] = [
  { view: "runs", query: {} },
  { view: "runs", query: { state: "failed", q: "a b&c" } },
  { view: "run", id: "a/b?c#d%", tab: "tree", taskId: null },
  { view: "run", id: "r", tab: "graph", taskId: null },
  { view: "run", id: "r", tab: "graph", taskId: "x/y" },
  { view: "run", id: "r", tab: "tree", taskId: "graph" },
  { view: "new", query: { executor: "echo" } },
  { view: "executors", id: "my:task" },
  { view: "executors", id: null },
  { view: "schedules" },
  { view: "approvals" },
  { view: "system" },
];

test.each(ROUTES)("the address of a route leads to it: %j", (route) => {
  expect(parseRoute(hrefOf(route))).toEqual(route);
});

test("what is not known leads to the runs", () => {
  for (const fragment of ["", "#", "#/", "#/nothing", "#/runs/", "#token"]) expect(parseRoute(fragment).view).toBe("runs");
});

test("a broken escape in an address is taken as it is", () => {
  expect(parseRoute("#/runs/%E0%A4%A")).toMatchObject({ view: "run", id: "%E0%A4%A" });
});

test("a filter is the same after a way through the address", () => {
  const filter = runFilterOf({ state: "failed", q: "x", by: "name", tag: "t", user: "ann", since: "7d", group: "tag" });
  expect(runFilterOf(queryOfFilter(filter))).toEqual(filter);
});

test("a filter that is not valid is no filter", () => {
  expect(queryOfFilter(runFilterOf({ state: "broken", since: "yesterday", group: "moon", by: "shoe" }))).toEqual({});
});

test("the text of a filter is searched for where the reader says", () => {
  expect(parametersOf(runFilterOf({ q: "x" }))).toEqual({ root_only: true, label: "x" });
  expect(parametersOf(runFilterOf({ q: "x", by: "id" }))).toEqual({ root_only: true, id_prefix: "x" });
  expect(parametersOf(runFilterOf({ q: "x", by: "name", tag: "t", state: "failed" }))).toEqual({ root_only: true, name: "x", tags: ["t"], status: "failed" });
});
