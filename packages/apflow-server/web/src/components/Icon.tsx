/** Icons, drawn on a grid of 16. Each state has a shape of its own, so that readers do not depend on its colour. */
import type { TaskStatus } from "../api/_generated_operations";
import { STATUS_TEXT } from "../model/status";

const PATHS = {
  runs: "M3 3.5h10M3 8h10M3 12.5h6",
  new: "M8 3v10M3 8h10",
  schedules: "M8 4.5V8l2.5 1.5M14 8A6 6 0 1 1 2 8a6 6 0 0 1 12 0Z",
  approvals: "M2.5 4.5h11v7h-6L4.5 14v-2.5h-2ZM6 8l1.5 1.5L10.5 6.5",
  executors: "M3 3h4v4H3ZM9 9h4v4H9ZM9 3h4v4H9ZM3 9h4v4H3Z",
  system: "M2.5 3.5h11v4h-11ZM2.5 9.5h11v3h-11ZM5 5.5h.01M5 11h.01",
  close: "M4 4l8 8M12 4l-8 8",
  chevron: "M6 4l4 4-4 4",
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8Z",
  search: "M7 12A5 5 0 1 0 7 2a5 5 0 0 0 0 10ZM10.6 10.6 14 14",
  help: "M6 6.2C6 5 6.9 4.3 8 4.3s2 .7 2 1.8c0 1.5-2 1.6-2 3.1M8 11.6h.01",
  download: "M8 2.5v7.5M5 7l3 3 3-3M3 13.5h10",
  terminal: "M3 4.5 6.5 8 3 11.5M8 12h5",
  theme: "M8 2a6 6 0 1 0 0 12ZM8 2a6 6 0 0 1 0 12",
  out: "M6 3H3v10h3M7 8h6.5M11 5.5 13.5 8 11 10.5",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

/** The mark of a state: a ring, a half, a tick, a cross, a bar, an arrow over. */
export function StatusIcon({ status }: { status: TaskStatus }) {
  return (
    <svg class={`status-icon is-${status}`} viewBox="0 0 16 16" aria-hidden="true">
      {MARKS[status]}
    </svg>
  );
}

const MARKS = {
  pending: <circle cx="8" cy="8" r="5.2" class="mark-line" />,
  in_progress: (
    <>
      <circle cx="8" cy="8" r="5.2" class="mark-faint" />
      <path d="M8 2.8a5.2 5.2 0 0 1 5.2 5.2" class="mark-line mark-turns" />
    </>
  ),
  completed: (
    <>
      <circle cx="8" cy="8" r="6.2" class="mark-fill" />
      <path d="M5.2 8.2l2 2 3.6-4" class="mark-cut" />
    </>
  ),
  failed: (
    <>
      <path d="M5.4 1.8h5.2l3.6 3.6v5.2l-3.6 3.6H5.4l-3.6-3.6V5.4Z" class="mark-fill" />
      <path d="M5.8 5.8l4.4 4.4M10.2 5.8l-4.4 4.4" class="mark-cut" />
    </>
  ),
  cancelled: (
    <>
      <circle cx="8" cy="8" r="5.2" class="mark-line" />
      <path d="M4.6 11.4l6.8-6.8" class="mark-line" />
    </>
  ),
  skipped: <path d="M2.5 10.5C3.5 6 8.5 4.5 12 8M12.4 4.4V8.4H8.4" class="mark-line" />,
} satisfies Record<TaskStatus, unknown>;

/** The state of a task: its mark and its word. */
export function StatusBadge({ status }: { status: TaskStatus }) {
  return (
    <span class={`badge is-${status}`}>
      <StatusIcon status={status} />
      {STATUS_TEXT[status]}
    </span>
  );
}
