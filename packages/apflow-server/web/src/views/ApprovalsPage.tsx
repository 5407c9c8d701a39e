/** The approvals that wait for a decision, and those that are decided. */
import { useState } from "preact/hooks";
import type { ApprovalResult } from "../api/_generated_operations";
import { Choice } from "../components/Choice";
import { EmptyNote } from "../components/Notes";
import { Time } from "../components/Time";
import { ViewHead } from "../components/ViewHead";
import { taskHref } from "../model/route";
import { useLive } from "../stores/live";
import { ApprovalForm } from "./drawer/ApprovalCard";

const MAX_APPROVALS = 200;
const CHOICES = [["open", "Waiting"], ["decided", "Decided"]] as const;

export function ApprovalsPage() {
  const [status, setStatus] = useState<"open" | "decided">("open");
  const live = useLive("approvals.list", { status, limit: MAX_APPROVALS });
  const found = live.data.value;
  return (
    <div class="view">
      <ViewHead title="Approvals" source={live}>
        <Choice label="Which approvals" chosen={status} choices={CHOICES} onChoose={setStatus} />
      </ViewHead>
      {found?.length === 0 && <EmptyNote>{status === "open" ? "Nothing waits for a decision." : "Nothing has been decided yet."}</EmptyNote>}
      {found?.map((approval) => (
        <article key={approval.task_id} class="card approval-card">
          <h2><a href={taskHref(approval.root_task_id, approval.task_id)}>{approval.name}</a></h2>
          {status === "open" ? <ApprovalForm approval={approval} /> : <Decided approval={approval} />}
        </article>
      ))}
    </div>
  );
}

function Decided({ approval }: { approval: ApprovalResult }) {
  const { decision } = approval;
  return (
    <>
      <p class="question">{approval.question}</p>
      <p>
        <strong class={approval.status === "approved" ? "yes" : "no"}>{approval.status.replace("_", " ")}</strong>
        {decision && <> by {decision.timed_out ? "the end of its time" : (decision.by ?? "the owner of the database")}, <Time at={decision.at} /></>}
      </p>
      {decision?.reason && <p class="faint">{decision.reason}</p>}
      {decision && Object.keys(decision.answers).length > 0 && <pre>{JSON.stringify(decision.answers, null, 2)}</pre>}
    </>
  );
}
