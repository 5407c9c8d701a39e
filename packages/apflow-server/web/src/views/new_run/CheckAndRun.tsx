/** Checks tasks with the server, shows what they would do, and runs them. */
import { useEffect, useState } from "preact/hooks";
import type { Json, PlanResult } from "../../api/_generated_operations";
import { RpcError, callAny } from "../../api/rpc";
import { ActionButton, Button } from "../../components/Button";
import { CopyAs } from "../../components/CopyAs";
import { ErrorNote } from "../../components/Notes";
import { plan, submit } from "../../model/actions";
import { notify, perform } from "../../stores/perform";
import { goToRun } from "../drawer/TaskActions";
import { PlanView } from "./PlanView";

export interface CheckAndRunProps {
  /** The tasks; null while something is missing. */
  tasks: Json | null;
  onIncomplete: () => void;
}

export function CheckAndRun({ tasks, onIncomplete }: CheckAndRunProps) {
  const [found, setFound] = useState<PlanResult | null>(null);
  const [faults, setFaults] = useState<string[]>([]);
  const text = JSON.stringify(tasks);
  useEffect(() => (setFound(null), setFaults([])), [text]);
  const check = async (): Promise<PlanResult | null> => {
    if (tasks === null) {
      onIncomplete();
      notify("Something is missing or wrong: see the fields.", true);
      return null;
    }
    try {
      const planned = (await callAny("tasks.plan", plan(tasks).params)) as PlanResult;
      setFound(planned);
      setFaults([]);
      return planned;
    } catch (error) {
      setFaults(error instanceof RpcError && error.violations.length > 0 ? error.violations : [String(error instanceof Error ? error.message : error)]);
      return null;
    }
  };
  const run = async () => {
    const planned = await check();
    if (planned === null || planned.problems.length > 0) return;
    goToRun(await perform(submit(tasks), "The run is requested."));
  };
  const action = submit(tasks);
  return (
    <section class="check-and-run" aria-live="polite">
      {faults.length > 0 && <ErrorNote><ul>{faults.map((fault) => <li key={fault}>{fault}</li>)}</ul></ErrorNote>}
      {found && <PlanView plan={found} />}
      <p class="form-actions">
        <ActionButton action={action} kind="main" onClick={() => void run()} />
        <Button onClick={() => void check()}>Check</Button>
        {tasks !== null && <CopyAs actions={[action]} />}
      </p>
    </section>
  );
}
