/** YAML text, by the core schema of YAML 1.2 and with merge keys, as the command line reads it. Loaded when it is needed. */
import { CORE_SCHEMA, load, mergeTag } from "js-yaml";
import type { Json } from "../api/_generated_operations";

const MOST_ALIASES = 10_000;
const SCHEMA = CORE_SCHEMA.withTags(mergeTag);

/** Return the value of a text in YAML. Raises an error that names the line and the column. */
export function parseYaml(text: string): Json {
  return load(text, { schema: SCHEMA, maxAliases: MOST_ALIASES }) as Json;
}
