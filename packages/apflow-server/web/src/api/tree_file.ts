/** Files of tasks, read by the server: as the command line reads them, in JSON or YAML. */
import { hasRoundedInteger } from "../model/json_text";
import type { Json } from "./_generated_operations";
import { TREE_FILE } from "./root";
import { send } from "./rpc";

export interface TreeFile {
  /** The declared parameters as a schema of an object, or null if the file declares none. */
  parameters: { [name: string]: Json } | null;
  /** The tasks with the values of the parameters; null while one has no value. */
  tasks: Json | null;
  /** What is wrong with the file, or with the values. */
  faults: string[];
}

const ROUNDED = "This browser cannot keep a number of the file exactly. Use: apflow run flow FILE";

/** Return what the text of a file contains. */
export async function readTreeFile(text: string, values: { [name: string]: Json }): Promise<TreeFile> {
  const found = (await send({ text, values }, TREE_FILE)) as TreeFile;
  return hasRoundedInteger(found.tasks) ? { ...found, tasks: null, faults: [ROUNDED] } : found;
}
