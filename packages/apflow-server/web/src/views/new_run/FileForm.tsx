/** A run of a file of tasks, in JSON or YAML. The server reads it, as the command line does. */
import { useRef, useState } from "preact/hooks";
import type { Json } from "../../api/_generated_operations";
import { AwayError, RpcError, callAny } from "../../api/rpc";
import { Button } from "../../components/Button";
import { ErrorNote } from "../../components/Notes";
import { SchemaForm } from "../../components/SchemaForm";
import { type Field, fieldsOf, valueOf } from "../../model/schema_fields";
import { CheckAndRun } from "./CheckAndRun";
import { type FileFault, type ReadFile, faultText, readLocally } from "./read_file";

export function FileForm() {
  const [text, setText] = useState("");
  const [read, setRead] = useState<ReadFile | null>(null);
  const [faults, setFaults] = useState<readonly FileFault[]>([]);
  const [texts, setTexts] = useState<Record<string, string>>({});
  const picker = useRef<HTMLInputElement>(null);
  const fields = fieldsOf(read?.params ?? null);
  const change = (next: string) => {
    setText(next);
    setRead(null);
    setFaults([]);
  };
  const readText = async (values: Record<string, Json>) => {
    const found = await readFile(text, values);
    if (Array.isArray(found)) return setFaults(found);
    setFaults(found.problems);
    setRead(found);
  };
  const { value, faults: missing } = valueOf(fields, texts);
  const take = async (file: File | undefined) => file && change(await file.text());
  return (
    <div class="card form-card" onDragOver={(event) => event.preventDefault()} onDrop={(event) => (event.preventDefault(), void take(event.dataTransfer?.files[0]))}>
      <div class="field">
        <label for="tasks">Tasks, in JSON or YAML</label>
        <textarea id="tasks" class="code" rows={16} spellcheck={false} placeholder={EXAMPLE} value={text} onInput={(event) => change(event.currentTarget.value)} />
        <input ref={picker} type="file" accept=".json,.yaml,.yml" hidden onChange={(event) => void take(event.currentTarget.files?.[0])} />
      </div>
      <p class="form-actions">
        <Button onClick={() => picker.current?.click()}>Open a file</Button>
        {read === null && <Button kind="main" isDisabled={text.trim() === ""} onClick={() => void readText({})}>Read</Button>}
      </p>
      {faults.length > 0 && <ErrorNote><ul>{faults.map((fault, at) => <li key={at}>{faultText(fault)}</li>)}</ul></ErrorNote>}
      {read && fields.length > 0 && <Parameters fields={fields} texts={texts} faults={missing} onChange={setTexts} onApply={() => void readText(value)} />}
      {read?.tasks && <CheckAndRun tasks={read.tasks} onIncomplete={() => undefined} />}
    </div>
  );
}

interface ParametersProps {
  fields: readonly Field[];
  texts: Readonly<Record<string, string>>;
  faults: Readonly<Record<string, string>>;
  onChange: (texts: Record<string, string>) => void;
  onApply: () => void;
}

function Parameters({ fields, texts, faults, onChange, onApply }: ParametersProps) {
  return (
    <section>
      <h2>Parameters</h2>
      <SchemaForm fields={fields} texts={texts} faults={faults} onChange={onChange} />
      <Button isDisabled={Object.keys(faults).length > 0} onClick={onApply}>Use these values</Button>
    </section>
  );
}

const EXAMPLE = `- id: all
  name: import
- name: system_info_executor
  parent_id: all
  inputs: {resource: cpu}`;

/** Return what a file contains. JSON is read here; only the server reads YAML and files with parameters. */
async function readFile(text: string, values: Record<string, Json>): Promise<ReadFile | FileFault[]> {
  const local = readLocally(text);
  try {
    return (await callAny("tasks.read", { text, values })) as ReadFile;
  } catch (error) {
    if (error instanceof RpcError && error.isUnknownMethod) return local;
    if (error instanceof AwayError) return [{ message: error.message }];
    const violations = error instanceof RpcError ? error.violations : [];
    return violations.length > 0 ? violations.map((message) => ({ message })) : [{ message: error instanceof Error ? error.message : String(error) }];
  }
}
