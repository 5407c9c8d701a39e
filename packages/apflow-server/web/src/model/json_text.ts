/** JSON text with integers of any size: none is rounded, whatever JavaScript's numbers hold. Pure. */

interface RawJson {
  rawJSON?: (text: string) => unknown;
  isRawJSON?: (value: unknown) => boolean;
}

const LONG_NUMBER = /\d{16}/;
const { rawJSON } = JSON as RawJson;

/**
 * Return the value of a text in JSON.
 *
 * An integer that a number cannot hold becomes a value that `JSON.stringify` writes as it was, in browsers that can
 * do so; otherwise it is rounded.
 */
export function parseJson(text: string): unknown {
  if (rawJSON === undefined || !LONG_NUMBER.test(text)) return JSON.parse(text);
  return JSON.parse(text, reviveExactly as (key: string, value: unknown) => unknown);
}

function reviveExactly(_key: string, value: unknown, context?: { source?: string }): unknown {
  const isRounded = typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value);
  return isRounded && context?.source !== undefined && /^-?\d+$/.test(context.source) ? rawJSON?.(context.source) : value;
}

/** Return whether a value contains an integer that this browser cannot keep exactly. */
export function hasRoundedInteger(value: unknown): boolean {
  const unseen = [value];
  for (let at = 0; at < unseen.length; at++) {
    const each = unseen[at];
    if (Number.isInteger(each) && !Number.isSafeInteger(each)) return true;
    if (typeof each === "object" && each !== null) for (const inner of Object.values(each)) unseen.push(inner);
  }
  return false;
}

/** Return whether a value is an integer that `parseJson` has kept exactly. */
export function isExactNumber(value: unknown): boolean {
  return (JSON as RawJson).isRawJSON?.(value) ?? false;
}
