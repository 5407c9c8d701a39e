import { expect, test } from "vitest";
// @ts-expect-error The types of Node are left out, so that the page cannot use what only Node has.
import { execFileSync } from "node:child_process";
import { quoted, waysOf } from "../../src/model/action";
import { cancel, execute, fork } from "../../src/model/actions";

test.each(["plain", "", "two words", "it's", "$HOME `id` \"x\" \\ !", "a\nb", "ümläut", "-x;rm"])("a shell reads a quoted word as it is: %j", (word) => {
  expect(execFileSync("sh", ["-c", `printf %s ${quoted(word)}`], { encoding: "utf8" })).toBe(word);
});

test("an action is said in four ways", () => {
  const ways = waysOf(cancel("it's"), "https://flow.example/sub/", true);
  expect(ways.cli).toBe(`apflow tasks cancel 'it'\\''s' --server https://flow.example/sub`);
  expect(ways.curl).toContain("https://flow.example/sub/call/tasks.cancel");
  expect(ways.curl).toContain('"Authorization: Bearer $APFLOW_API_TOKEN"');
  expect(ways.a2a).toContain('"metadata":{"method":"tasks.cancel"}');
  expect(JSON.parse(ways.mcp)).toEqual({ method: "tools/call", params: { name: "tasks_cancel", arguments: { task_ids: ["it's"] } } });
});

test("without a token, no command names one", () => {
  expect(waysOf(cancel("a"), "http://x/", false).curl).not.toContain("Authorization");
});

test("a completed task is only run again by force", () => {
  expect(execute("a", "completed").cli).toContain("--force");
  expect(execute("a", "failed").params).toEqual({ task_id: "a" });
});

test("a fork gives the changed inputs only", () => {
  expect(fork("a", { url: "x" }).params).toEqual({ task_id: "a", from_task_ids: ["a"], overrides: { a: { inputs: { url: "x" } } } });
  expect(fork("a", { url: "x" }).cli).toContain('inputs.url="x"');
  expect(fork("a", null).params).toEqual({ task_id: "a", from_task_ids: ["a"] });
});
