/** A run of a file of tasks, in JSON or YAML, with values for its parameters. */
import { useRef, useState } from "preact/hooks";
import type { Json } from "../../api/_generated_operations";
import { Button } from "../../components/Button";
import { ErrorNote } from "../../components/Notes";
import { SchemaForm } from "../../components/SchemaForm";
import { parseJson } from "../../model/json_text";
import { type Field, fieldsOf, valueOf } from "../../model/schema_fields";
import { type TreeFile, insertParameters, treeFileOf } from "../../model/tree_file";
import { CheckAndRun } from "./CheckAndRun";

export function FileForm() {
  const [text, setText] = useState("");
  const [file, setFile] = useState<TreeFile | null>(null);
  const [fault, setFault] = useState<string | null>(null);
  const [texts, setTexts] = useState<Record<string, string>>({});
  const picker = useRef<HTMLInputElement>(null);
  const change = (next: string) => {
    setText(next);
    setFile(null);
    setFault(null);
  };
  const read = () => parseText(text).then((value) => setFile(treeFileOf(value))).catch((error: Error) => setFault(error.message));
  const fields = fieldsOf(file?.parameters ?? null);
  const { value, faults } = valueOf(fields, texts);
  const filled = file === null || Object.keys(faults).length > 0 ? null : fill(file, value);
  const take = async (chosen: File | undefined) => chosen && change(await chosen.text());
  return (
    <div class="card form-card" onDragOver={(event) => event.preventDefault()} onDrop={(event) => (event.preventDefault(), void take(event.dataTransfer?.files[0]))}>
      <div class="field">
        <label for="tasks">Tasks, in JSON or YAML</label>
        <textarea id="tasks" class="code" rows={16} spellcheck={false} placeholder={EXAMPLE} value={text} onInput={(event) => change(event.currentTarget.value)} />
        <input ref={picker} type="file" accept=".json,.yaml,.yml" hidden onChange={(event) => void take(event.currentTarget.files?.[0])} />
      </div>
      <p class="form-actions">
        <Button onClick={() => picker.current?.click()}>Open a file</Button>
        {file === null && <Button kind="main" isDisabled={text.trim() === ""} onClick={() => void read()}>Read</Button>}
      </p>
      {fault !== null && <ErrorNote><pre>{fault}</pre></ErrorNote>}
      {fields.length > 0 && <Parameters fields={fields} texts={texts} faults={faults} onChange={setTexts} />}
      {typeof filled === "string" && <ErrorNote>{filled}</ErrorNote>}
      {file && <CheckAndRun tasks={typeof filled === "string" ? null : (filled?.tasks ?? null)} onIncomplete={() => undefined} />}
    </div>
  );
}

/** Return the tasks with the values of parameters, or why they cannot be inserted. */
function fill(file: TreeFile, values: { [name: string]: Json }): { tasks: Json } | string {
  try {
    return { tasks: insertParameters(file, values) };
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Return the value of a text: JSON, or else YAML, whose reader is loaded then. */
async function parseText(text: string): Promise<Json> {
  try {
    return parseJson(text) as Json;
  } catch {
    const { parseYaml } = await import("../../model/yaml_text");
    return parseYaml(text);
  }
}

interface ParametersProps {
  fields: readonly Field[];
  texts: Readonly<Record<string, string>>;
  faults: Readonly<Record<string, string>>;
  onChange: (texts: Record<string, string>) => void;
}

function Parameters({ fields, texts, faults, onChange }: ParametersProps) {
  return (
    <section>
      <h2>Parameters</h2>
      <SchemaForm fields={fields} texts={texts} faults={faults} onChange={onChange} />
    </section>
  );
}

const EXAMPLE = `- id: all
  name: import
- name: system_info_executor
  parent_id: all
  inputs: {resource: cpu}`;
