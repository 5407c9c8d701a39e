/** A run of one task: its executor, its inputs by a form, and what it is called. */
import { useState } from "preact/hooks";
import type { Json } from "../../api/_generated_operations";
import { call } from "../../api/rpc";
import { ErrorNote, Reading } from "../../components/Notes";
import { SchemaForm } from "../../components/SchemaForm";
import { fieldsOf, valueOf } from "../../model/schema_fields";
import { usePolled } from "../../stores/poll";
import { CheckAndRun } from "./CheckAndRun";

const SECONDS = 120;

export function ExecutorForm({ executorId }: { executorId: string | null }) {
  const { data, error } = usePolled(() => call("system.executors", {}), SECONDS);
  const [chosen, setChosen] = useState(executorId ?? "");
  const [texts, setTexts] = useState<Record<string, string>>({});
  const [label, setLabel] = useState("");
  const [tags, setTags] = useState("");
  const [hasTried, setTried] = useState(false);
  if (error.value !== null) return <ErrorNote>{error.value}</ErrorNote>;
  if (data.value === null) return <Reading />;
  const usable = data.value.filter((executor) => executor.is_usable);
  const executor = usable.find((each) => each.id === chosen);
  const fields = fieldsOf(executor?.input_schema ?? null);
  const { value, faults } = valueOf(fields, texts);
  const isComplete = executor !== undefined && Object.keys(faults).length === 0;
  const tagList = tags.split(",").map((tag) => tag.trim()).filter(Boolean);
  const tasks: Json = [{ name: chosen, inputs: value, ...(label && { label }), ...(tagList.length > 0 && { tags: tagList }) }];
  return (
    <div class="card form-card">
      <div class="field">
        <label for="executor">Executor</label>
        <select id="executor" value={chosen} onChange={(event) => (setChosen(event.currentTarget.value), setTexts({}), setTried(false))}>
          <option value="">Choose one</option>
          {usable.map((each) => <option key={each.id} value={each.id}>{each.id}{each.name && each.name !== each.id ? ` – ${each.name}` : ""}</option>)}
        </select>
        {executor && <p class="field-help">{executor.description}</p>}
      </div>
      {executor && (
        <>
          <div class="field">
            <label for="label">Label</label>
            <input id="label" type="text" maxLength={255} placeholder="What the run is about, for people" value={label} onInput={(event) => setLabel(event.currentTarget.value)} />
          </div>
          <div class="field">
            <label for="tags">Tags</label>
            <input id="tags" type="text" placeholder="nightly, team:data" value={tags} onInput={(event) => setTags(event.currentTarget.value)} />
          </div>
          <h2>Inputs</h2>
          {fields.length === 0 && <p class="faint">It takes no inputs that it describes.</p>}
          <SchemaForm fields={fields} texts={texts} faults={hasTried ? faults : {}} onChange={setTexts} />
          <CheckAndRun tasks={isComplete ? tasks : null} fill={() => (setTried(true), Promise.resolve(null))} />
        </>
      )}
    </div>
  );
}
