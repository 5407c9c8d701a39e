/** The keys of the table of tasks, as the pattern "treegrid" of ARIA describes them, and some more. */
import type { RunView } from "../../stores/run_view";

export interface RowActions {
  onOpen: (id: string) => void;
  onWhy: (id: string) => void;
}

const PAGE = 20;

/** Return what handles the keys of the table. */
export function keyHandler(view: RunView, actions: RowActions): (event: KeyboardEvent) => void {
  return (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const handle = HANDLERS[event.key];
    if (handle === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    handle(view, actions);
    view.pointed.value = view.active.value;
  };
}

const HANDLERS: Record<string, (view: RunView, actions: RowActions) => void> = {
  ArrowDown: (view) => move(view, 1),
  ArrowUp: (view) => move(view, -1),
  PageDown: (view) => move(view, PAGE),
  PageUp: (view) => move(view, -PAGE),
  Home: (view) => move(view, -Infinity),
  End: (view) => move(view, Infinity),
  ArrowRight: unfoldOrEnter,
  ArrowLeft: foldOrLeave,
  Enter: (view, actions) => actions.onOpen(view.active.value),
  " ": (view, actions) => actions.onOpen(view.active.value),
  w: (view, actions) => actions.onWhy(view.active.value),
  "+": (view) => view.timeline.scale(0.5),
  "-": (view) => view.timeline.scale(2),
  "0": (view) => void (view.timeline.zoom.value = null),
  "<": (view) => view.timeline.shift(-0.5),
  ">": (view) => view.timeline.shift(0.5),
  e: (view) => toNextFailure(view),
};

function move(view: RunView, by: number): void {
  const rows = view.rows.value;
  const at = rows.findIndex((row) => row.id === view.active.value);
  const to = rows[Math.max(0, Math.min(rows.length - 1, at + by))];
  if (to) view.active.value = to.id;
}

function unfoldOrEnter(view: RunView): void {
  const row = view.rows.value.find((each) => each.id === view.active.value);
  if (!row?.hasChildren) return;
  if (row.isFolded) view.fold(row.id, false);
  else move(view, 1);
}

function foldOrLeave(view: RunView): void {
  const row = view.rows.value.find((each) => each.id === view.active.value);
  if (row === undefined) return;
  if (row.hasChildren && !row.isFolded) view.fold(row.id, true);
  else {
    const parent = view.store.nodes.get(row.id)?.parentId;
    if (parent && row.depth > 0) view.active.value = parent;
  }
}

/** Go to the next task that failed. Groups are left out: they fail because of what is in them. */
function toNextFailure(view: RunView): void {
  const rows = view.rows.value;
  const at = rows.findIndex((row) => row.id === view.active.value);
  const next = [...rows.slice(at + 1), ...rows.slice(0, at + 1)].find((row) => !row.hasChildren && view.store.nodes.get(row.id)?.status === "failed");
  if (next) view.active.value = next.id;
}
