/** What a file of tasks contains, read without the server: JSON only. Pure. */
import type { Json } from "../../api/_generated_operations";
import { isObject } from "../../model/merge_patch";

export interface FileFault {
  message: string;
  line?: number | null;
  column?: number | null;
}

export interface ReadFile {
  /** Null if parameters have no values yet. */
  tasks: Json[] | null;
  /** The parameters of the file, as a schema of an object. */
  params: { [name: string]: Json } | null;
  problems: FileFault[];
}

/** Return the tasks of a text in JSON, or why it has none. */
export function readLocally(text: string): ReadFile | FileFault[] {
  let value: Json;
  try {
    value = JSON.parse(text) as Json;
  } catch {
    return [{ message: "This server reads no YAML for pages. Give the tasks in JSON, or run the file with: apflow run flow FILE" }];
  }
  if (Array.isArray(value)) return { tasks: value, params: null, problems: [] };
  if (!isObject(value)) return [{ message: "A file has an array of tasks, or one task." }];
  if (value["params"] && value["tasks"]) return [{ message: "This server reads no parameters of files for pages. Run the file with: apflow run flow FILE --set NAME=VALUE" }];
  const tasks = Array.isArray(value["tasks"]) ? value["tasks"] : [value];
  return { tasks, params: null, problems: [] };
}

export function faultText({ message, line, column }: FileFault): string {
  return line ? `Line ${line}${column ? `, column ${column}` : ""}: ${message}` : message;
}
