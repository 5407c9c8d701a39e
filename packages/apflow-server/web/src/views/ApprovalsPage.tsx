/** The approvals that wait for a decision, and those that are decided. */
import { useState } from "preact/hooks";
import type { ApprovalResult } from "../api/_generated_operations";
import { call } from "../api/rpc";
import { EmptyNote, ErrorNote, Reading } from "../components/Notes";
import { Time } from "../components/Time";
import { taskHref } from "../model/route";
import { usePolled } from "../stores/poll";
import { ApprovalForm } from "./drawer/ApprovalCard";

const SECONDS = 5;
const MOST = 200;

export function ApprovalsPage() {
  const [status, setStatus] = useState<"open" | "decided">("open");
  const { data, error, refresh } = usePolled(() => call("approvals.list", { status, limit: MOST }), SECONDS, status);
  const found = data.value;
  return (
    <div class="view">
      <header class="view-head">
        <h1>Approvals</h1>
        <div class="tabs" role="group" aria-label="Which approvals">
          {(["open", "decided"] as const).map((each) => (
            <button key={each} type="button" class="tab" aria-pressed={status === each} onClick={() => setStatus(each)}>{each === "open" ? "Waiting" : "Decided"}</button>
          ))}
        </div>
      </header>
      {error.value !== null && <ErrorNote>{error.value}</ErrorNote>}
      {found === null && error.value === null && <Reading />}
      {found?.length === 0 && <EmptyNote>{status === "open" ? "Nothing waits for a decision." : "Nothing has been decided yet."}</EmptyNote>}
      {found?.map((approval) => (
        <article key={approval.task_id} class="card approval-card">
          <h2><a href={taskHref(approval.root_task_id, approval.task_id)}>{approval.name}</a></h2>
          {status === "open" ? <ApprovalForm approval={approval} onDecided={refresh} /> : <Decided approval={approval} />}
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
