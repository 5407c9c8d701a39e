import { expect, test } from "vitest";
import type { Json } from "../../src/api/_generated_operations";
import { parseJson } from "../../src/model/json_text";
import { insertParameters, treeFileOf } from "../../src/model/tree_file";
import { parseYaml } from "../../src/model/yaml_text";

const FILE = `
params:
  day: {type: string}
  limit: {type: integer, default: 100}
tasks:
  - name: Load \${params.day}
    priority: \${params.limit}
    inputs: {file: "orders-\${params.day}.csv", all: ["\${params.limit}"], literal: "$\${params.day}", home: "\${HOME}"}
`;

test("values are inserted with their type, or as text in longer text", () => {
  const tasks = insertParameters(treeFileOf(parseYaml(FILE)), { day: "monday" });
  expect(tasks).toEqual([{ name: "Load monday", priority: 100, inputs: { file: "orders-monday.csv", all: [100], literal: "${params.day}", home: "${HOME}" } }]);
});

test("what values contain is not searched for references", () => {
  const [task] = insertParameters(treeFileOf(parseYaml(FILE)), { day: "${params.limit} $& $1" }) as { name: string }[];
  expect(task?.name).toBe("Load ${params.limit} $& $1");
});

test("a parameter without a default is required, and one that is missing is refused", () => {
  const file = treeFileOf(parseYaml(FILE));
  expect(file.parameters?.["required"]).toEqual(["day"]);
  expect(() => insertParameters(file, {})).toThrow('no parameter "day"');
});

test("an array is not inserted into longer text", () => {
  expect(() => insertParameters(treeFileOf(parseYaml(FILE)), { day: [1] })).toThrow("longer text");
});

test("a file without parameters is taken as it is, also with such text", () => {
  const tasks = [{ name: "${params.x}" }];
  expect(insertParameters(treeFileOf(tasks), {})).toEqual(tasks);
  expect(treeFileOf({ name: "one" }).tasks).toEqual([{ name: "one" }]);
});

test.each<[string, string]>([
  ["name: a\nname: b", "duplicated"],
  ["- !!python/object:x {}", "tag"],
  ["a: [1", "unexpected end"],
])("a text that is not good YAML is refused: %j", (text, reason) => {
  expect(() => parseYaml(text)).toThrow(reason);
});

test("YAML is read by its core schema", () => {
  expect(parseYaml("[no, on, 12:30, 01234, 2026-11-27, ~, true, 0x1f]")).toEqual(["no", "on", "12:30", 1234, "2026-11-27", null, true, 31]);
  expect(parseYaml("base: &b {a: 1}\nmore:\n  <<: *b\n  c: 2")).toEqual({ base: { a: 1 }, more: { a: 1, c: 2 } });
});

test("an integer that would be rounded is refused in a file", () => {
  expect(() => treeFileOf([{ n: 9007199254740993 as Json }])).toThrow("too large");
  expect(() => treeFileOf(parseYaml("- {n: 18446744073709551615}"))).toThrow("too large");
});

test("other keys next to tasks are refused", () => {
  expect(() => treeFileOf({ tasks: [], paramz: {} })).toThrow('"paramz"');
});

test("JSON is read as usual where no number is long", () => {
  expect(parseJson('{"a": [1, 2.5, "x"]}')).toEqual({ a: [1, 2.5, "x"] });
});
