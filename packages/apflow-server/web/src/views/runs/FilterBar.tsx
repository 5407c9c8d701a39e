/** The filter of the list of runs. It is in the address, so that a link leads to the same list. */
import { useLayoutEffect, useRef } from "preact/hooks";
import type { CountResult } from "../../api/_generated_operations";
import { Icon } from "../../components/Icon";
import { StatusChips } from "../../components/StatusChips";
import { type Grouping, type RunFilter, SINCE_CHOICES } from "../../model/run_filter";

export interface FilterBarProps {
  filter: RunFilter;
  /** Of all states; null while it is not known. */
  count: CountResult | null;
  onChange: (filter: RunFilter) => void;
}

const GROUPINGS: readonly [Grouping, string][] = [
  ["none", "not grouped"],
  ["tag", "by tag"],
  ["name", "by name"],
  ["original", "by the tree copied"],
];

/** An input whose text counts when it is complete. A list that is drawn again meanwhile leaves the text as it is. */
function ExactInput({ label, value, onChange }: { label: string; value: string; onChange: (value: string) => void }) {
  const input = useRef<HTMLInputElement>(null);
  useLayoutEffect(() => {
    input.current!.value = value;
  }, [value]);
  return <input ref={input} class="short" type="text" placeholder={label} aria-label={label} onChange={(event) => onChange(event.currentTarget.value.trim())} />;
}

export function FilterBar({ filter, count, onChange }: FilterBarProps) {
  return (
    <div class="toolbar" role="search" aria-label="Filter of runs">
      <StatusChips label="State" counts={count?.by_status ?? null} chosen={filter.status} onChoose={(status) => onChange({ ...filter, status })} />
      <label class="search">
        <Icon name="search" />
        <input type="search" id="search" placeholder="Find runs" aria-label="Find runs" value={filter.text} onInput={(event) => onChange({ ...filter, text: event.currentTarget.value })} />
      </label>
      <label class="select">in
        <select value={filter.field} onChange={(event) => onChange({ ...filter, field: event.currentTarget.value as RunFilter["field"] })}>
          <option value="label">label</option>
          <option value="name">name (exact)</option>
          <option value="id">ID</option>
        </select>
      </label>
      <ExactInput label="Tag" value={filter.tag} onChange={(tag) => onChange({ ...filter, tag })} />
      <ExactInput label="User" value={filter.user} onChange={(user) => onChange({ ...filter, user })} />
      <select aria-label="Created" value={filter.since} onChange={(event) => onChange({ ...filter, since: event.currentTarget.value })}>
        {SINCE_CHOICES.map(([value, text]) => <option key={value} value={value}>{text}</option>)}
      </select>
      <select aria-label="Groups" value={filter.group} onChange={(event) => onChange({ ...filter, group: event.currentTarget.value as Grouping })}>
        {GROUPINGS.map(([value, text]) => <option key={value} value={value}>{text}</option>)}
      </select>
    </div>
  );
}
