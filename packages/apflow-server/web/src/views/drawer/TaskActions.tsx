/** What can be done with a task: run or retry it, cancel it, copy it. */
import { useState } from "preact/hooks";
import type { TaskResult } from "../../api/_generated_operations";
import { ActionButton, Button } from "../../components/Button";
import { Dialog } from "../../components/Dialog";
import type { Action } from "../../model/action";
import { cancel, copy, execute } from "../../model/actions";
import { runHref } from "../../model/route";
import { isEnd } from "../../model/status";
import { type TaskNode, titleOf } from "../../model/task_node";
import { perform } from "../../stores/perform";

export function TaskActions({ node, isRoot }: { node: TaskNode; isRoot: boolean }) {
  const [asked, setAsked] = useState<Action | null>(null);
  const run = execute(node.id, node.status);
  const stop = cancel(node.id);
  const duplicate = copy(node.id);
  const start = () => void perform(run, `${titleOf(node)}: a run is requested.`);
  const isIdle = isEnd(node.status) || (isRoot && node.status === "pending" && node.startedAt === null);
  return (
    <>
      {isIdle && <ActionButton action={run} kind={node.status === "completed" ? "plain" : "main"} onClick={() => (node.status === "completed" ? setAsked(run) : start())} />}
      {!isEnd(node.status) && <ActionButton action={stop} onClick={() => setAsked(stop)} />}
      <ActionButton action={duplicate} onClick={() => void perform(duplicate, "Copied.").then(goToRun)} />
      {asked && (
        <Dialog title={`${asked.title}?`} onClose={() => setAsked(null)}>
          <p>{asked.method === stop.method ? CANCEL_TEXT : AGAIN_TEXT}</p>
          <p class="dialog-actions">
            <Button onClick={() => setAsked(null)}>Back</Button>
            <Button kind={asked.method === stop.method ? "danger" : "main"} onClick={() => (setAsked(null), void perform(asked, `${asked.title}: requested.`))}>{asked.title}</Button>
          </p>
        </Dialog>
      )}
    </>
  );
}

const CANCEL_TEXT = "The task, its descendants and the tasks that need it are cancelled. Running code gets time to end by itself.";
const AGAIN_TEXT = "Completed tasks run again, and their results are replaced. A copy keeps them.";

export function goToRun(result: unknown): void {
  const id = (result as TaskResult | null | undefined)?.id;
  if (id) location.hash = runHref(id);
}
