/** The inputs of a task, to be edited for a run of a copy from this task on. */
import { useState } from "preact/hooks";
import type { Json, TaskResult } from "../../api/_generated_operations";
import { callAny } from "../../api/rpc";
import { Button } from "../../components/Button";
import { CopyAs } from "../../components/CopyAs";
import { JsonView } from "../../components/JsonView";
import { ErrorNote } from "../../components/Notes";
import { execute, fork } from "../../model/actions";
import { parseJson } from "../../model/json_text";
import { isObject, mergePatch } from "../../model/merge_patch";
import { perform } from "../../stores/perform";
import type { RunView } from "../../stores/run_view";
import { goToRun } from "./TaskActions";

export function InputsTab({ view, task }: { view: RunView; task: TaskResult }) {
  const isCut = view.store.source.cutFields(task.id).includes("inputs");
  return (
    <>
      <section>
        {isCut && <p class="faint">The export has only a part of them.</p>}
        <JsonView value={task.inputs as Json} name={`inputs-${task.key}`} />
      </section>
      {Object.keys(task.params).length > 0 && <Part title="Params" value={task.params} />}
      {Object.keys(task.policy).length > 0 && <Part title="Policy" value={task.policy} />}
      {!view.store.source.isReadOnly && <RerunForm task={task} />}
    </>
  );
}

function Part({ title, value }: { title: string; value: Record<string, Json> }) {
  return (
    <section>
      <h3>{title}</h3>
      <JsonView value={value as Json} name={title.toLowerCase()} />
    </section>
  );
}

/** Runs a copy of the tree: this task and what depends on it run again, everything else keeps its result. */
function RerunForm({ task }: { task: TaskResult }) {
  const before = JSON.stringify(task.inputs, null, 2);
  const [text, setText] = useState(before);
  const [fault, setFault] = useState<string | null>(null);
  const read = readObject(text);
  const action = fork(task.id, typeof read === "string" ? null : mergePatch(task.inputs, read));
  const start = async () => {
    if (typeof read === "string") return setFault(read);
    setFault(null);
    const copied = (await perform(action)) as TaskResult | undefined;
    if (copied === undefined) return;
    await callAny("tasks.execute", execute(copied.id, "pending").params).catch((error: Error) => setFault(error.message));
    goToRun(copied);
  };
  return (
    <section class="rerun">
      <h3>Run again from here</h3>
      <p class="faint">In a copy of the run, this task and what depends on it run again, with these inputs. Other tasks keep their results, and this run does not change.</p>
      <textarea class="code" rows={Math.min(16, text.split("\n").length + 1)} spellcheck={false} aria-label="Inputs for the copy, as JSON" value={text} onInput={(event) => setText(event.currentTarget.value)} />
      {fault !== null && <ErrorNote>{fault}</ErrorNote>}
      <p class="form-actions">
        <Button kind="main" onClick={() => void start()}>Run again from here</Button>
        {text !== before && <Button onClick={() => setText(before)}>Undo the edits</Button>}
        <CopyAs actions={[action]} />
      </p>
    </section>
  );
}

function readObject(text: string): { [name: string]: Json } | string {
  try {
    const value = parseJson(text) as Json;
    return isObject(value) ? value : "Inputs must be a JSON object, such as {\"url\": \"https://example.com\"}.";
  } catch (error) {
    return `This is not JSON: ${error instanceof Error ? error.message : String(error)}`;
  }
}
