/** The filter of the list of runs: its text in the address, and the parameters of operations. Pure. */
import type { TaskStatus } from "../api/_generated_operations";
import type { Params } from "../api/rpc";
import { isStatus } from "./status";

export type Grouping = "none" | "tag" | "name" | "original";

export interface RunFilter {
  status: TaskStatus | null;
  /** Text in the label, or the whole name, or the beginning of an ID; see `field`. */
  text: string;
  field: "label" | "name" | "id";
  tag: string;
  user: string;
  since: string;
  group: Grouping;
}

export const SINCE_CHOICES: readonly [value: string, text: string][] = [
  ["", "Any time"],
  ["1h", "Last hour"],
  ["1d", "Last day"],
  ["7d", "Last 7 days"],
  ["30d", "Last 30 days"],
];

/** Return the filter that the address of the list contains. */
export function runFilterOf(query: Record<string, string>): RunFilter {
  const { state = "", q = "", by = "", tag = "", user = "", since = "", group = "" } = query;
  return {
    status: isStatus(state) ? state : null,
    text: q,
    field: by === "name" || by === "id" ? by : "label",
    tag,
    user,
    since: /^\d+[smhdw]$/.test(since) ? since : "",
    group: group === "tag" || group === "name" || group === "original" ? group : "none",
  };
}

/** Return what of the filter the address contains: nothing that has its default. */
export function queryOfFilter(filter: RunFilter): Record<string, string> {
  const all = {
    state: filter.status ?? "",
    q: filter.text,
    by: filter.text && filter.field !== "label" ? filter.field : "",
    tag: filter.tag,
    user: filter.user,
    since: filter.since,
    group: filter.group === "none" ? "" : filter.group,
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== ""));
}

/** Return the parameters of `tasks.list` and `tasks.count` for a filter. */
export function parametersOf(filter: RunFilter): Params<"tasks.count"> {
  return {
    root_only: true,
    ...(filter.status && { status: filter.status }),
    ...(filter.text && textParameter(filter)),
    ...(filter.tag && { tags: [filter.tag] }),
    ...(filter.user && { user_id: filter.user }),
    ...(filter.since && { since: filter.since }),
  };
}

function textParameter({ text, field }: RunFilter): Params<"tasks.count"> {
  if (field === "name") return { name: text };
  return field === "id" ? { id_prefix: text } : { label: text };
}

/** Return the options of `apflow tasks list` for a filter, for "copy as". */
export function optionsOf(filter: RunFilter): string[] {
  return [
    ...(filter.status ? ["--status", filter.status] : []),
    ...(filter.text ? [filter.field === "id" ? "--id-prefix" : `--${filter.field}`, filter.text] : []),
    ...(filter.tag ? ["--tag", filter.tag] : []),
    ...(filter.user ? ["--user-id", filter.user] : []),
    ...(filter.since ? ["--since", filter.since] : []),
  ];
}
