/** Buttons that show how many there are of each state, and of which one is chosen to be shown alone. */
import type { TaskStatus } from "../api/_generated_operations";
import { countText } from "../model/format";
import { STATUSES, STATUS_TEXT } from "../model/status";
import { StatusIcon } from "./Icon";

export interface StatusChipsProps {
  label: string;
  /** Numbers by state; null while they are not known. */
  counts: Partial<Record<TaskStatus, number>> | null;
  chosen: TaskStatus | null;
  /** A summary leaves out states without any, and has the number before the word. */
  isSummary?: boolean;
  onChoose: (status: TaskStatus | null) => void;
}

export function StatusChips({ label, counts, chosen, isSummary = false, onChoose }: StatusChipsProps) {
  const shown = STATUSES.filter((status) => !isSummary || status === chosen || (counts?.[status] ?? 0) > 0);
  return (
    <div class="chips" role="group" aria-label={label}>
      {shown.map((status) => (
        <button
          key={status}
          type="button"
          class={`chip is-${status}`}
          aria-pressed={chosen === status}
          title={`Show only: ${STATUS_TEXT[status].toLowerCase()}`}
          onClick={() => onChoose(chosen === status ? null : status)}
        >
          <StatusIcon status={status} />
          {isSummary
            ? <>{countText(counts?.[status] ?? 0)} <span class="chip-word">{STATUS_TEXT[status].toLowerCase()}</span></>
            : <><span class="chip-word">{STATUS_TEXT[status]}</span> <span class="faint">{counts && countText(counts[status] ?? 0)}</span></>}
        </button>
      ))}
    </div>
  );
}
