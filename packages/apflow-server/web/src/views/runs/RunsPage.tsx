/** The list of runs: filter, numbers, groups, and each run with its state and progress. */
import { useMemo, useState } from "preact/hooks";
import type { CountResult, TaskResult, UsageReportResult } from "../../api/_generated_operations";
import { call } from "../../api/rpc";
import { Button } from "../../components/Button";
import { CopyAs } from "../../components/CopyAs";
import { EmptyNote } from "../../components/Notes";
import { ViewHead } from "../../components/ViewHead";
import { moneyText, plural } from "../../model/format";
import { listRuns } from "../../model/actions";
import { hrefOf } from "../../model/route";
import { type RunFilter, parametersOf, queryOfFilter, runFilterOf } from "../../model/run_filter";
import { groupsOf } from "../../model/run_groups";
import { go } from "../../stores/location";
import { usePolled } from "../../stores/poll";
import { FilterBar } from "./FilterBar";
import { GroupedRuns } from "./GroupedRuns";
import { RunList } from "./RunList";

const PAGE = 100;
const SECONDS = 2;

interface Runs {
  runs: TaskResult[];
  count: CountResult;
  usage: UsageReportResult | null;
}

export function RunsPage({ query }: { query: Record<string, string> }) {
  const filter = useMemo(() => runFilterOf(query), [JSON.stringify(query)]);
  const key = JSON.stringify(filter);
  const [pages, setPages] = useState({ of: key, count: 1 });
  const limit = (pages.of === key ? pages.count : 1) * PAGE;
  const polled = usePolled(() => readRuns(filter, limit), SECONDS, key + limit);
  const change = (next: RunFilter) => go({ view: "runs", query: queryOfFilter(next) }, true);
  const found = polled.data.value;
  const costs = useMemo(() => costsOf(found?.usage ?? null), [found]);
  return (
    <div class="view">
      <ViewHead title="Runs" polled={polled}>
        {found && <p class="faint">{plural(found.count.total, "run")}{found.usage && found.usage.total.cost_usd > 0 && `, ${moneyText(found.usage.total.cost_usd)} spent`}</p>}
        <span class="head-actions">
          <CopyAs actions={[listRuns(filter)]} />
          <a class="button button-main" href={hrefOf({ view: "new", query: {} })}>New run</a>
        </span>
      </ViewHead>
      <FilterBar filter={filter} count={found?.count ?? null} onChange={change} />
      {found !== null && found.runs.length === 0 && <NoRuns isFiltered={Object.keys(query).length > 0} />}
      {found !== null && found.runs.length > 0 && (filter.group === "none"
        ? <RunList runs={found.runs} costs={costs} label="Runs" />
        : <GroupedRuns groups={groupsOf(found.runs, filter.group)} costs={costs} grouping={filter.group} />)}
      {found !== null && found.runs.length >= limit && found.count.total > limit && (
        <p class="more"><Button onClick={() => setPages({ of: key, count: limit / PAGE + 1 })}>Show more</Button></p>
      )}
    </div>
  );
}

function NoRuns({ isFiltered }: { isFiltered: boolean }) {
  if (isFiltered) return <EmptyNote>No run matches. <a href={hrefOf({ view: "runs", query: {} })}>Show all runs</a></EmptyNote>;
  return (
    <EmptyNote>
      <p>There are no runs yet.</p>
      <p><a href={hrefOf({ view: "new", query: {} })}>Start one here</a>, or from a shell: <code>apflow run flow tree.yaml</code></p>
    </EmptyNote>
  );
}

async function readRuns(filter: RunFilter, limit: number): Promise<Runs> {
  const parameters = parametersOf(filter);
  const { status: _, ...others } = parameters;
  const [runs, count, usage] = await Promise.all([
    call("tasks.list", { ...parameters, with_tree: true, limit }),
    call("tasks.count", others),
    call("tasks.usage", { group_by: "tree", ...(filter.user && { user_id: filter.user }) }).catch(() => null),
  ]);
  return { runs, count, usage };
}

function costsOf(usage: UsageReportResult | null): ReadonlyMap<string, number> {
  const groups = (usage?.groups ?? []) as unknown as { tree_id: string; cost_usd: number }[];
  return new Map(groups.map((group) => [group.tree_id, group.cost_usd]));
}
