/** JSON Merge Patch (RFC 7396): what must change so that one value becomes another. Pure. */
import type { Json } from "../api/_generated_operations";
import { isExactNumber } from "./json_text";

type JsonObject = { [name: string]: Json };

/** Return the patch from one object to another, or null if they are equal. */
export function mergePatch(before: JsonObject, after: JsonObject): JsonObject | null {
  const patch: JsonObject = {};
  for (const name of Object.keys(before)) if (!(name in after)) patch[name] = null;
  for (const [name, value] of Object.entries(after)) {
    const old = before[name];
    if (old !== undefined && isEqual(old, value)) continue;
    const inner = isObject(old) && isObject(value) ? mergePatch(old, value) : null;
    patch[name] = inner ?? value;
  }
  return Object.keys(patch).length > 0 ? patch : null;
}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !isExactNumber(value);
}

export function isEqual(one: Json, other: Json): boolean {
  if (Array.isArray(one) && Array.isArray(other)) {
    return one.length === other.length && one.every((each, at) => isEqual(each, other[at] as Json));
  }
  if (isObject(one) && isObject(other)) {
    const names = Object.keys(one);
    return names.length === Object.keys(other).length && names.every((name) => name in other && isEqual(one[name] as Json, other[name] as Json));
  }
  return one === other || (isExactNumber(one) && isExactNumber(other) && JSON.stringify(one) === JSON.stringify(other));
}
