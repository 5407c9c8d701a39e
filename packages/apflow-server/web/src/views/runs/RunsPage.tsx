/** The list of runs: filter, numbers, groups, and each run with its state and progress. */
import { useMemo, useState } from "preact/hooks";
import type { UsageReportResult } from "../../api/_generated_operations";
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
import { useLive } from "../../stores/live";
import { FilterBar } from "./FilterBar";
import { GroupedRuns } from "./GroupedRuns";
import { RunList } from "./RunList";

const PAGE = 100;

export function RunsPage({ query }: { query: Record<string, string> }) {
  const filter = useMemo(() => runFilterOf(query), [JSON.stringify(query)]);
  const key = JSON.stringify(filter);
  const [pages, setPages] = useState({ of: key, count: 1 });
  const limit = (pages.of === key ? pages.count : 1) * PAGE;
  const parameters = parametersOf(filter);
  const { status: _, ...ofAnyState } = parameters;
  const list = useLive("tasks.list", { ...parameters, with_tree: true, limit });
  const count = useLive("tasks.count", ofAnyState).data.value;
  const usage = useLive("tasks.usage", { group_by: "tree", ...(filter.user && { user_id: filter.user }) }).data.value;
  const change = (next: RunFilter) => go({ view: "runs", query: queryOfFilter(next) }, true);
  const runs = list.data.value;
  const costs = useMemo(() => costsOf(usage), [usage]);
  return (
    <div class="view">
      <ViewHead title="Runs" source={list}>
        {count && <p class="faint">{plural(count.total, "run")}{usage !== null && usage.total.cost_usd > 0 && `, ${moneyText(usage.total.cost_usd)} spent`}</p>}
        <span class="head-actions">
          <CopyAs actions={[listRuns(filter)]} />
          <a class="button button-main" href={hrefOf({ view: "new", query: {} })}>New run</a>
        </span>
      </ViewHead>
      <FilterBar filter={filter} count={count} onChange={change} />
      {runs?.length === 0 && <NoRuns isFiltered={Object.keys(query).length > 0} />}
      {runs !== null && runs.length > 0 && (filter.group === "none"
        ? <RunList runs={runs} costs={costs} label="Runs" />
        : <GroupedRuns groups={groupsOf(runs, filter.group)} costs={costs} grouping={filter.group} />)}
      {runs !== null && runs.length >= limit && count !== null && count.total > limit && (
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

function costsOf(usage: UsageReportResult | null): ReadonlyMap<string, number> {
  const groups = (usage?.groups ?? []) as unknown as { tree_id: string; cost_usd: number }[];
  return new Map(groups.map((group) => [group.tree_id, group.cost_usd]));
}
