/** Runs in groups, each of which can be folded. */
import { StatusIcon } from "../../components/Icon";
import { countText, plural } from "../../model/format";
import { runHref } from "../../model/route";
import type { Grouping } from "../../model/run_filter";
import type { RunGroup } from "../../model/run_groups";
import { STATUSES, STATUS_TEXT } from "../../model/status";
import { RunList } from "./RunList";

const EMPTY_TITLE: Record<Grouping, string> = { none: "", tag: "Without a tag", name: "", original: "Neither copied nor copies" };

export function GroupedRuns({ groups, costs, grouping }: { groups: readonly RunGroup[]; costs: ReadonlyMap<string, number>; grouping: Grouping }) {
  return (
    <>
      {groups.map((group) => (
        <details key={group.originalId ?? group.title} class="run-group" open={groups.length <= 12}>
          <summary>
            <strong>{group.title || EMPTY_TITLE[grouping]}</strong>
            <span class="faint">{plural(group.runs.length, "run")}</span>
            {STATUSES.filter((status) => group.byStatus[status]).map((status) => (
              <span key={status} class="group-count" title={STATUS_TEXT[status]}>
                <StatusIcon status={status} />
                {countText(group.byStatus[status] ?? 0)}
                <span class="unseen"> {STATUS_TEXT[status]}</span>
              </span>
            ))}
          </summary>
          {group.originalId !== null && <p class="faint">Copies of <a href={runHref(group.originalId)}><code>{group.originalId}</code></a></p>}
          <RunList runs={group.runs} costs={costs} label={`Runs: ${group.title || EMPTY_TITLE[grouping]}`} />
        </details>
      ))}
    </>
  );
}
