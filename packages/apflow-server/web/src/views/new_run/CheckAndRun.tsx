/** Checks tasks with the server, shows what they would do, and runs them. */
import { useLayoutEffect, useState } from "preact/hooks";
import type { Json, PlanResult } from "../../api/_generated_operations";
import { callAny, faultsOf } from "../../api/rpc";
import { ActionButton, Button } from "../../components/Button";
import { CopyAs } from "../../components/CopyAs";
import { FaultList } from "../../components/Notes";
import { plan, submit } from "../../model/actions";
import { notify, perform } from "../../stores/perform";
import { goToRun } from "../drawer/TaskActions";
import { PlanView } from "./PlanView";

export interface CheckAndRunProps {
  /** The tasks; null while they are not known. */
  tasks: Json | null;
  /** Find out the tasks, or say what is missing and return null. */
  fill: () => Promise<Json | null>;
}

export function CheckAndRun({ tasks, fill }: CheckAndRunProps) {
  const [found, setFound] = useState<PlanResult | null>(null);
  const [faults, setFaults] = useState<string[]>([]);
  const text = JSON.stringify(tasks);
  useLayoutEffect(() => (setFound(null), setFaults([])), [text]);
  const check = async (): Promise<{ checked: Json; planned: PlanResult } | null> => {
    const checked = tasks ?? (await fill());
    if (checked === null) {
      notify("Something is missing or wrong: see the fields.", true);
      return null;
    }
    try {
      const planned = (await callAny("tasks.plan", plan(checked).params)) as PlanResult;
      setFound(planned);
      setFaults([]);
      return { checked, planned };
    } catch (error) {
      setFaults(faultsOf(error));
      return null;
    }
  };
  const run = async () => {
    const outcome = await check();
    if (outcome === null || outcome.planned.problems.length > 0) return;
    goToRun(await perform(submit(outcome.checked), "The run is requested."));
  };
  const action = submit(tasks);
  return (
    <section class="check-and-run" aria-live="polite">
      <FaultList faults={faults} />
      {found && <PlanView plan={found} />}
      <p class="form-actions">
        <ActionButton action={action} kind="main" onClick={() => void run()} />
        <Button onClick={() => void check()}>Check</Button>
        {tasks !== null && <CopyAs actions={[action]} />}
      </p>
    </section>
  );
}
