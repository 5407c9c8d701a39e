/** Files of tasks: their parameters, and the values inserted for them; see "Parameters of files" in the reference. Pure. */
import type { Json } from "../api/_generated_operations";
import { isObject } from "./merge_patch";

type JsonObject = { [name: string]: Json };

export interface TreeFile {
  tasks: Json;
  /** The declared parameters as a schema of an object, or null if the file declares none. */
  parameters: JsonObject | null;
}

/** A file cannot be used. */
export class TreeFileError extends Error {}

/** Return the tasks and the parameters of what a file contains. */
export function treeFileOf(value: Json): TreeFile {
  checkIntegers(value);
  if (Array.isArray(value)) return { tasks: value, parameters: null };
  if (!isObject(value)) throw new TreeFileError("A file has an array of tasks, or one task.");
  const { tasks, params, ...others } = value;
  if (tasks === undefined) return { tasks: [value], parameters: null };
  const [other] = Object.keys(others);
  if (other !== undefined) throw new TreeFileError(`A file has no key ${JSON.stringify(other)} next to tasks. There are: params, tasks.`);
  if (params === undefined || params === null) return { tasks, parameters: null };
  if (!isObject(params)) throw new TreeFileError("params must be an object of parameters by name.");
  const required = Object.entries(params).filter(([, schema]) => isObject(schema) && !("default" in schema)).map(([name]) => name);
  return { tasks, parameters: { type: "object", properties: params, required } };
}

/** Return tasks in which the references to parameters have become the values. Values that are not given have their default. */
export function insertParameters(file: TreeFile, given: JsonObject): Json {
  if (file.parameters === null) return file.tasks;
  const declared = file.parameters["properties"] as JsonObject;
  const defaults = Object.entries(declared).flatMap(([name, schema]) => (isObject(schema) && schema["default"] !== undefined ? [[name, schema["default"]]] : []));
  return inserted(file.tasks, { ...(Object.fromEntries(defaults) as JsonObject), ...given });
}

const WHOLE = /^\$\{params\.([^{}]*)\}$/;
const PARTS = /(\$?)\$\{params\.([^{}]*)\}/g;

function inserted(value: Json, values: JsonObject): Json {
  if (Array.isArray(value)) return value.map((each) => inserted(each, values));
  if (isObject(value)) return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, inserted(each, values)]));
  if (typeof value !== "string") return value;
  const whole = WHOLE.exec(value);
  if (whole !== null) return valueOf(whole[1] ?? "", values);
  return value.replace(PARTS, (reference: string, escape: string, name: string) => (escape ? reference.slice(1) : textOf(name, values)));
}

function valueOf(name: string, values: JsonObject): Json {
  const value = values[name];
  if (value === undefined || !Object.hasOwn(values, name)) throw new TreeFileError(`There is no parameter ${JSON.stringify(name)} with a value.`);
  return value;
}

function textOf(name: string, values: JsonObject): string {
  const value = valueOf(name, values);
  if (typeof value === "object" && value !== null) throw new TreeFileError(`The parameter ${JSON.stringify(name)} cannot be inserted into longer text.`);
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Integers that JavaScript rounds are refused: nothing may change what the file says. */
function checkIntegers(value: Json): void {
  const unseen: Json[] = [value];
  for (let each = unseen.pop(); each !== undefined; each = unseen.pop()) {
    if (typeof each === "number" && Number.isInteger(each) && !Number.isSafeInteger(each)) {
      throw new TreeFileError(`The number ${each} is too large to be read exactly here. Use: apflow run flow FILE`);
    }
    if (Array.isArray(each)) for (const inner of each) unseen.push(inner);
    else if (isObject(each)) for (const inner of Object.values(each)) unseen.push(inner);
  }
}
