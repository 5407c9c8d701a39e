/** What a task asks, and the decision: with a form if the approval has one. */
import { useState } from "preact/hooks";
import type { ApprovalResult, Json } from "../../api/_generated_operations";
import { call } from "../../api/rpc";
import { ActionButton } from "../../components/Button";
import { CopyAs } from "../../components/CopyAs";
import { JsonView } from "../../components/JsonView";
import { ErrorNote } from "../../components/Notes";
import { SchemaForm } from "../../components/SchemaForm";
import { Time } from "../../components/Time";
import { approve, reject } from "../../model/actions";
import { fieldsOf, valueOf } from "../../model/schema_fields";
import { useAnswer } from "../../stores/answer";
import { notify, perform } from "../../stores/perform";

export function ApprovalCard({ taskId }: { taskId: string }) {
  const { data: approval, error } = useAnswer(() => call("approvals.get", { task_id: taskId }), [taskId]);
  if (error !== null) return <ErrorNote>{error}</ErrorNote>;
  return approval && <ApprovalForm approval={approval} />;
}

export function ApprovalForm({ approval }: { approval: ApprovalResult }) {
  const [texts, setTexts] = useState<Record<string, string>>({});
  const [faults, setFaults] = useState<Record<string, string>>({});
  const [reason, setReason] = useState("");
  const fields = fieldsOf(approval.form);
  const { value, faults: found } = valueOf(fields, texts);
  const yes = approve(approval.task_id, value as Record<string, Json>, reason);
  const no = reject(approval.task_id, reason);
  const decide = async (isApproved: boolean) => {
    setFaults(isApproved ? found : {});
    if (isApproved && Object.keys(found).length > 0) return notify("Some answers are missing or wrong.", true);
    await perform(isApproved ? yes : no, isApproved ? "Approved." : "Rejected.");
  };
  return (
    <section class="approval" aria-label={`Approval: ${approval.question}`}>
      <p class="question">{approval.question}</p>
      <p class="faint">
        asked <Time at={approval.asked_at} />
        {approval.deadline !== null && <>, decide <Time at={approval.deadline} />, else: {approval.on_timeout}</>}
        {approversText(approval)}
      </p>
      {approval.data !== null && <JsonView value={approval.data} name="data" />}
      {approval.may_decide ? (
        <>
          <SchemaForm fields={fields} texts={texts} faults={faults} onChange={setTexts} />
          <div class="field">
            <label>Reason <input type="text" value={reason} onInput={(event) => setReason(event.currentTarget.value)} /></label>
          </div>
          <p class="form-actions">
            <ActionButton action={yes} kind="main" onClick={() => void decide(true)} />
            <ActionButton action={no} kind="danger" onClick={() => void decide(false)} />
            <CopyAs actions={[yes, no]} />
          </p>
        </>
      ) : <p class="faint">You may not decide it.</p>}
    </section>
  );
}

function approversText({ approvers }: ApprovalResult): string {
  const names = [...approvers.users, ...approvers.roles.map((role) => `role ${role}`)];
  return names.length > 0 ? `; may be decided by ${names.join(", ")}` : "";
}
