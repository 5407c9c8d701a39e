/** The result of a task. */
import type { TaskResult } from "../../api/_generated_operations";
import { JsonView } from "../../components/JsonView";
import { EmptyNote } from "../../components/Notes";
import type { RunView } from "../../stores/run_view";

export function ResultTab({ view, task }: { view: RunView; task: TaskResult }) {
  const isCut = view.store.source.cutFields(task.id).includes("result");
  if (task.result === null) return <EmptyNote>{task.error ? "The task failed: it has no result." : "The task has no result."}</EmptyNote>;
  return (
    <>
      {isCut && <p class="faint">The export has only a part of it.</p>}
      <JsonView value={task.result} name={`result-${task.key}`} />
    </>
  );
}
