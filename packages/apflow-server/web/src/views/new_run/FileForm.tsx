/** A run of a file of tasks, in JSON or YAML, with values for its parameters. */
import { useRef, useState } from "preact/hooks";
import type { Json } from "../../api/_generated_operations";
import { faultsOf } from "../../api/rpc";
import { type TreeFile, readTreeFile } from "../../api/tree_file";
import { Button } from "../../components/Button";
import { FaultList } from "../../components/Notes";
import { SchemaForm } from "../../components/SchemaForm";
import { fieldsOf, valueOf } from "../../model/schema_fields";
import { CheckAndRun } from "./CheckAndRun";

export function FileForm() {
  const [text, setText] = useState("");
  const [file, setFile] = useState<TreeFile | null>(null);
  const [reasons, setReasons] = useState<string[]>([]);
  const [texts, setTexts] = useState<Record<string, string>>({});
  const picker = useRef<HTMLInputElement>(null);
  const latestText = useRef(text);
  latestText.current = text;
  const fields = fieldsOf(file?.parameters ?? null);
  const { value, faults } = valueOf(fields, texts);
  const change = (next: string) => {
    setText(next);
    setFile(null);
    setReasons([]);
  };
  const read = async (values: { [name: string]: Json }): Promise<Json | null> => {
    setReasons([]);
    try {
      const found = await readTreeFile(text, values);
      if (latestText.current !== text) return null;
      setReasons(found.faults);
      if (found.faults.length === 0) setFile(found);
      return found.tasks;
    } catch (error) {
      setReasons(faultsOf(error));
      return null;
    }
  };
  const setValues = (next: Record<string, string>) => {
    setTexts(next);
    setFile(file && { ...file, tasks: null });
  };
  const fill = () => (Object.keys(faults).length > 0 ? Promise.resolve(null) : read(value));
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
        {file === null && <Button kind="main" isDisabled={text.trim() === ""} onClick={() => void read({})}>Read</Button>}
      </p>
      {fields.length > 0 && (
        <section>
          <h2>Parameters</h2>
          <SchemaForm fields={fields} texts={texts} faults={faults} onChange={setValues} />
        </section>
      )}
      <FaultList faults={reasons} />
      {file && <CheckAndRun tasks={file.tasks} fill={fill} />}
    </div>
  );
}

const EXAMPLE = `- id: all
  name: import
- name: system_info_executor
  parent_id: all
  inputs: {resource: cpu}`;
