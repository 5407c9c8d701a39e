/** Why a task is in its state, and what to do about it. */
import { useEffect, useState } from "preact/hooks";
import type { WhyResult } from "../../api/_generated_operations";
import { Dialog } from "../../components/Dialog";
import { ErrorNote, Reading } from "../../components/Notes";
import { STATUS_TEXT } from "../../model/status";
import type { RunView } from "../../stores/run_view";

export function WhyDialog({ view, taskId, onClose }: { view: RunView; taskId: string; onClose: () => void }) {
  const node = view.store.nodes.get(taskId);
  return (
    <Dialog title={`Why: ${node?.label ?? node?.name ?? taskId}`} onClose={onClose}>
      <Why view={view} taskId={taskId} />
    </Dialog>
  );
}

/** The reasons and the advice, read again when the state of the task changes. */
export function Why({ view, taskId }: { view: RunView; taskId: string }) {
  const [why, setWhy] = useState<WhyResult | string | null>(null);
  view.store.tick.value;
  const status = view.store.nodes.get(taskId)?.status;
  useEffect(() => {
    let isCurrent = true;
    view.store.source.why(taskId).then(
      (found) => isCurrent && setWhy(found ?? "The export does not say."),
      (error: Error) => isCurrent && setWhy(error.message),
    );
    return () => void (isCurrent = false);
  }, [taskId, status]);
  if (why === null) return <Reading />;
  if (typeof why === "string") return <ErrorNote>{why}</ErrorNote>;
  return (
    <div class="why">
      <p class="faint">{STATUS_TEXT[why.status]}</p>
      <ul>{why.reasons.map((reason) => <li key={reason}>{reason}</li>)}</ul>
      {why.advice.length > 0 && <h3>What to do</h3>}
      <ul>{why.advice.map((advice) => <li key={advice}>{advice}</li>)}</ul>
    </div>
  );
}
