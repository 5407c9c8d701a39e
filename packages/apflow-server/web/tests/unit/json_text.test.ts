import { expect, test } from "vitest";
import { hasRoundedInteger, isExactNumber, parseJson } from "../../src/model/json_text";

test("JSON is read as usual where no number is long", () => {
  expect(parseJson('{"a": [1, 2.5, "x"]}')).toEqual({ a: [1, 2.5, "x"] });
});

test("an integer that a number cannot hold is written as it was read", () => {
  const text = '{"a":[18446744073709551615]}';
  expect(JSON.stringify(parseJson(text))).toBe(text);
  const read = parseJson(text) as { a: unknown[] };
  expect(isExactNumber(read.a[0])).toBe(true);
  expect(hasRoundedInteger(read)).toBe(false);
});

test("an integer that was rounded is found wherever it is", () => {
  expect(hasRoundedInteger({ a: [{ b: JSON.parse("9007199254740993") as number }] })).toBe(true);
  expect(hasRoundedInteger({ a: [9007199254740991, 0.5, "9007199254740993", null] })).toBe(false);
});
