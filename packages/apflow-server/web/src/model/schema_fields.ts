/** A JSON Schema as fields of a form, and the text of these fields as a value. Pure. */
import type { Json } from "../api/_generated_operations";
import { hasRoundedInteger, parseJson } from "./json_text";
import { isObject } from "./merge_patch";

export type FieldKind = "text" | "number" | "integer" | "boolean" | "choice" | "json";

export interface Field {
  name: string;
  kind: FieldKind;
  isRequired: boolean;
  description: string;
  /** An example or the default. */
  placeholder: string;
  choices: string[];
  isLong: boolean;
  isSecret: boolean;
  schema: { [name: string]: Json };
}

type Schema = { [name: string]: Json };

const LONG = 2000; // characters that a text may have in a field of one line

/** Return the fields of a schema of an object: required ones first. */
export function fieldsOf(schema: Schema | null): Field[] {
  const properties = schema?.["properties"];
  if (!isObject(properties)) return [];
  const required = Array.isArray(schema?.["required"]) ? schema["required"] : [];
  const fields = Object.entries(properties).flatMap(([name, each]) => (isObject(each) ? [fieldOf(name, each, required.includes(name))] : []));
  return [...fields.filter((field) => field.isRequired), ...fields.filter((field) => !field.isRequired)];
}

/** Return the value that the texts of fields mean, or what is wrong with each field. Empty fields are left out. */
export function valueOf(fields: readonly Field[], texts: Readonly<Record<string, string>>): { value: { [name: string]: Json }; faults: Record<string, string> } {
  const value: { [name: string]: Json } = {};
  const faults: Record<string, string> = {};
  for (const field of fields) {
    const text = texts[field.name] ?? "";
    if (text === "") {
      if (field.isRequired) faults[field.name] = "A value is required.";
      continue;
    }
    const read = readText(field, text);
    if ("fault" in read) faults[field.name] = read.fault;
    else value[field.name] = read.value;
  }
  return { value, faults };
}

function fieldOf(name: string, schema: Schema, isRequired: boolean): Field {
  const example = schema["default"] ?? (Array.isArray(schema["examples"]) ? schema["examples"][0] : undefined);
  const kind = kindOf(schema);
  const maxLength = schema["maxLength"];
  return {
    name,
    kind,
    isRequired,
    description: typeof schema["description"] === "string" ? schema["description"] : "",
    placeholder: example === undefined || example === null ? "" : typeof example === "string" && kind !== "json" ? example : JSON.stringify(example),
    choices: Array.isArray(schema["enum"]) ? schema["enum"].filter((each) => each !== null).map(String) : [],
    isLong: kind === "text" && typeof maxLength === "number" && maxLength > LONG,
    isSecret: schema["writeOnly"] === true,
    schema,
  };
}

function kindOf(schema: Schema): FieldKind {
  if (Array.isArray(schema["enum"]) && schema["enum"].every((each) => typeof each === "string" || each === null)) return "choice";
  const given = schema["type"];
  const types = (Array.isArray(given) ? given : [given]).filter((each) => each !== "null");
  if (types.length !== 1) return "json";
  if (types[0] === "string") return "text";
  return types[0] === "number" || types[0] === "integer" || types[0] === "boolean" ? types[0] : "json";
}

function readText(field: Field, text: string): { value: Json } | { fault: string } {
  switch (field.kind) {
    case "text":
      return withFault(text, textFault(field.schema, text));
    case "choice":
      return withFault(text, field.choices.includes(text) ? null : `It must be one of: ${field.choices.join(", ")}.`);
    case "boolean":
      return { value: text === "true" };
    case "number":
    case "integer":
      return withFault(Number(text), numberFault(field, text));
    case "json":
      return readJson(field.schema, text);
  }
}

function withFault(value: Json, fault: string | null): { value: Json } | { fault: string } {
  return fault === null ? { value } : { fault };
}

function textFault(schema: Schema, text: string): string | null {
  const { minLength, maxLength } = schema;
  if (typeof minLength === "number" && text.length < minLength) return `It must have at least ${minLength} characters.`;
  if (typeof maxLength === "number" && text.length > maxLength) return `It may have at most ${maxLength} characters.`;
  return null;
}

function numberFault({ kind, schema }: Field, text: string): string | null {
  const number = Number(text);
  if (text.trim() === "" || !Number.isFinite(number)) return "It must be a number.";
  if (kind === "integer" && !Number.isInteger(number)) return "It must be a whole number.";
  if (Number.isInteger(number) && !Number.isSafeInteger(number)) return "It is too large to be kept exactly here. Use a file of tasks.";
  const { minimum, maximum, exclusiveMinimum } = schema;
  if (typeof minimum === "number" && number < minimum) return `It must be at least ${minimum}.`;
  if (typeof exclusiveMinimum === "number" && number <= exclusiveMinimum) return `It must be more than ${exclusiveMinimum}.`;
  return typeof maximum === "number" && number > maximum ? `It may be at most ${maximum}.` : null;
}

/** Text that is not JSON is taken as a string where the schema allows one. */
function readJson(schema: Schema, text: string): { value: Json } | { fault: string } {
  try {
    const value = parseJson(text) as Json;
    return hasRoundedInteger(value) ? { fault: "This browser cannot keep a number in it exactly. Use a file of tasks." } : { value };
  } catch {
    return allowsString(schema) ? { value: text } : { fault: 'It must be JSON, such as {"name": "value"} or ["a", "b"].' };
  }
}

function allowsString(schema: Schema): boolean {
  const { type, anyOf, oneOf } = schema;
  if (type === undefined && anyOf === undefined && oneOf === undefined) return true;
  if (type === "string" || (Array.isArray(type) && type.includes("string"))) return true;
  return [anyOf, oneOf].some((several) => Array.isArray(several) && several.some((each) => isObject(each) && allowsString(each)));
}
