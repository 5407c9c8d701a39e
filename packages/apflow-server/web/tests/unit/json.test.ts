import { expect, test } from "vitest";
import type { Json } from "../../src/api/_generated_operations";
import { mergePatch } from "../../src/model/merge_patch";
import { fieldsOf, valueOf } from "../../src/model/schema_fields";

type JsonObject = { [name: string]: Json };

/** RFC 7396, section 2. */
function patched(target: Json, patch: Json): Json {
  if (patch === null || typeof patch !== "object" || Array.isArray(patch)) return patch;
  const result: JsonObject = target !== null && typeof target === "object" && !Array.isArray(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else result[name] = patched(result[name] ?? null, value);
  }
  return result;
}

const PAIRS: [JsonObject, JsonObject][] = [
  [{ a: 1 }, { a: 2 }],
  [{ a: 1, b: 2 }, { b: 2 }],
  [{}, { a: { b: [1, { c: 2 }] } }],
  [{ a: { b: 1, c: 2 } }, { a: { b: 1, c: 3 } }],
  [{ a: { b: 1 } }, { a: [1] }],
  [{ a: [1, 2] }, { a: [2, 1] }],
  [{ a: { b: { c: 1, d: 2 } }, e: "x" }, { a: { b: { d: 2 } }, e: "x" }],
];

test.each(PAIRS)("the patch from %j to %j makes the one of the other", (before, after) => {
  expect(patched(before, mergePatch(before, after))).toEqual(after);
});

test("equal values need no patch", () => {
  expect(mergePatch({ a: [1, { b: null }] }, { a: [1, { b: null }] })).toBeNull();
});

const SCHEMA: JsonObject = {
  type: "object",
  required: ["url"],
  properties: {
    method: { enum: ["GET", "POST"], default: "GET" },
    url: { type: "string", minLength: 3, description: "Where to." },
    count: { type: "integer", minimum: 1 },
    ratio: { type: ["number", "null"], exclusiveMinimum: 0 },
    deep: { type: "boolean" },
    headers: { type: "object" },
    body: {},
    key: { type: "string", writeOnly: true },
  },
};

test("fields are those of the schema, required ones first", () => {
  const fields = fieldsOf(SCHEMA);
  expect(fields.map((field) => [field.name, field.kind])).toEqual([
    ["url", "text"], ["method", "choice"], ["count", "integer"], ["ratio", "number"], ["deep", "boolean"], ["headers", "json"], ["body", "json"], ["key", "text"],
  ]);
  expect(fields[0]).toMatchObject({ isRequired: true, description: "Where to." });
  expect(fields.find((field) => field.name === "key")?.isSecret).toBe(true);
});

test("texts become a value, and empty ones are left out", () => {
  const { value, faults } = valueOf(fieldsOf(SCHEMA), { url: "http://x", count: "3", ratio: "0.5", deep: "false", headers: '{"a": "b"}', body: "plain text", method: "" });
  expect(faults).toEqual({});
  expect(value).toEqual({ url: "http://x", count: 3, ratio: 0.5, deep: false, headers: { a: "b" }, body: "plain text" });
});

test("each fault is at its field", () => {
  const { faults } = valueOf(fieldsOf(SCHEMA), { count: "1.5", ratio: "0", headers: "{", method: "PUT" });
  expect(Object.keys(faults).sort()).toEqual(["count", "headers", "method", "ratio", "url"]);
});

test("integers are kept as they were written, or refused", () => {
  const { value, faults } = valueOf(fieldsOf(SCHEMA), { url: "http://x", count: "9007199254740993", body: "[18446744073709551615]" });
  expect(faults).toEqual({ count: "It is too large to be kept exactly here. Use a file of tasks." });
  expect(JSON.stringify(value["body"])).toBe("[18446744073709551615]");
});

test("a schema that is not one of an object has no fields", () => {
  expect(fieldsOf(null)).toEqual([]);
  expect(fieldsOf({ type: "string" })).toEqual([]);
});
