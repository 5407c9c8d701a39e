/** Why a task is in its state, and what to do about it. */
import { Dialog } from "../../components/Dialog";
import { ErrorNote, Reading } from "../../components/Notes";
import { STATUS_TEXT } from "../../model/status";
import { titleOf } from "../../model/task_node";
import { useAnswer } from "../../stores/answer";
import type { RunView } from "../../stores/run_view";

export function WhyDialog({ view, taskId, onClose }: { view: RunView; taskId: string; onClose: () => void }) {
  const node = view.store.nodes.get(taskId);
  return (
    <Dialog title={`Why: ${node ? titleOf(node) : taskId}`} onClose={onClose}>
      <Why view={view} taskId={taskId} />
    </Dialog>
  );
}

/** The reasons and the advice, read again when the state of the task changes. */
export function Why({ view, taskId }: { view: RunView; taskId: string }) {
  view.store.tick.value;
  const status = view.store.nodes.get(taskId)?.status;
  const { data: why, error } = useAnswer(() => view.store.source.why(taskId).then((found) => found ?? Promise.reject(new Error("The export does not say."))), [taskId, status]);
  if (error !== null) return <ErrorNote>{error}</ErrorNote>;
  if (why === null) return <Reading />;
  return (
    <div class="why">
      <p class="faint">{STATUS_TEXT[why.status]}</p>
      <ul>{why.reasons.map((reason) => <li key={reason}>{reason}</li>)}</ul>
      {why.advice.length > 0 && <h3>What to do</h3>}
      <ul>{why.advice.map((advice) => <li key={advice}>{advice}</li>)}</ul>
    </div>
  );
}
