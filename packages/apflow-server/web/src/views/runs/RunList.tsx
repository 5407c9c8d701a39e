/** A table of runs. */
import type { TaskResult } from "../../api/_generated_operations";
import { StatusBadge } from "../../components/Icon";
import { Table } from "../../components/Table";
import { Time } from "../../components/Time";
import { durationText, moneyText } from "../../model/format";
import { hrefOf, runHref } from "../../model/route";
import { isEnd } from "../../model/status";
import { timeOf, titleOf } from "../../model/task_node";
import { now } from "../../stores/clock";
import { TreeProgress } from "./TreeProgress";

export function RunList({ runs, costs, label }: { runs: readonly TaskResult[]; costs: ReadonlyMap<string, number>; label: string }) {
  return (
    <Table
      label={label}
      className="run-list"
      heads={["Run", "State", "-Tasks", "#Duration", "#-Spend", "-User", "Created"]}
      rows={runs.map((run) => <RunRow key={run.id} run={run} cost={costs.get(run.id) ?? 0} />)}
    />
  );
}

function RunRow({ run, cost }: { run: TaskResult; cost: number }) {
  const status = run.tree?.status ?? run.status;
  return (
    <tr>
      <td class="run-cell">
        <a href={runHref(run.id)} class="run-link">{titleOf(run)}</a>
        {run.label && <span class="task-kind">{run.name}</span>}
        {run.tags?.map((tag) => <a key={tag} class="tag" href={hrefOf({ view: "runs", query: { tag } })}>{tag}</a>)}
        {run.error && <span class="task-error" title={run.error}>{run.error}</span>}
      </td>
      <td><StatusBadge status={status} /></td>
      <td class="wide-only"><TreeProgress tree={run.tree ?? null} /></td>
      <td class="number">{runDuration(run)}</td>
      <td class="number wide-only">{cost > 0 ? moneyText(cost) : <span class="faint">–</span>}</td>
      <td class="wide-only">{run.user_id ?? <span class="faint">–</span>}</td>
      <td><Time at={run.created_at} /></td>
    </tr>
  );
}

function runDuration(run: TaskResult): string {
  const from = timeOf(run.started_at);
  if (from === null) return "";
  const to = timeOf(run.completed_at) ?? (isEnd(run.status) ? timeOf(run.updated_at) : now.value);
  return durationText((to ?? from) - from);
}
