/** One task of a run: its place in the tree, its state, and its bar. */
import { Icon, StatusIcon } from "../../components/Icon";
import { durationText } from "../../model/format";
import type { TreeRow } from "../../model/rows";
import { STATUS_TEXT } from "../../model/status";
import { type TaskNode, titleOf } from "../../model/task_node";
import { now } from "../../stores/clock";
import type { RunView } from "../../stores/run_view";
import { Bars } from "./Bars";

export interface TaskRowProps {
  view: RunView;
  row: TreeRow;
  at: number;
  isActive: boolean;
  onOpen: (id: string) => void;
  onWhy: (id: string) => void;
}

export function TaskRow({ view, row, at, isActive, onOpen, onWhy }: TaskRowProps) {
  view.store.tick.value;
  const node = view.store.nodes.get(row.id);
  if (node === undefined) return null;
  const activate = () => (view.active.value = row.id);
  return (
    <div
      class={classesOf(view, node, isActive)}
      id={`row-${at}`}
      role="row"
      aria-rowindex={at + 2}
      aria-level={row.depth + 1}
      aria-posinset={row.position}
      aria-setsize={row.siblings}
      aria-expanded={row.hasChildren ? !row.isFolded : undefined}
      aria-selected={isActive}
      onMouseEnter={() => (view.pointed.value = row.id)}
      onClick={() => (activate(), onOpen(row.id))}
    >
      <div class="cell cell-name" role="gridcell" style={{ paddingInlineStart: `${8 + Math.min(row.depth, 20) * 16}px` }}>
        <Twisty row={row} onToggle={() => (activate(), view.fold(row.id, !row.isFolded))} />
        <StatusIcon status={node.status} />
        <NameOf node={node} />
        <button
          type="button"
          class="why-button"
          tabIndex={-1}
          aria-label={`Why is ${node.name} ${STATUS_TEXT[node.status].toLowerCase()}?`}
          onClick={(event) => (event.stopPropagation(), activate(), onWhy(row.id))}
        >
          why
        </button>
      </div>
      <div class="cell cell-status" role="gridcell">{stateText(node)}</div>
      <div class="cell cell-duration" role="gridcell">{durationOf(node, view)}</div>
      <div class="cell cell-bars" role="gridcell">
        <Bars view={view} node={node} />
      </div>
    </div>
  );
}

function Twisty({ row, onToggle }: { row: TreeRow; onToggle: () => void }) {
  if (!row.hasChildren) return <span class="twisty" />;
  return (
    <button
      type="button"
      class={`twisty${row.isFolded ? "" : " is-open"}`}
      tabIndex={-1}
      aria-label={row.isFolded ? "Unfold" : "Fold"}
      onClick={(event) => (event.stopPropagation(), onToggle())}
    >
      <Icon name="chevron" />
    </button>
  );
}

function NameOf({ node }: { node: TaskNode }) {
  const inline = node.error ?? (node.status === "in_progress" ? node.message : null);
  return (
    <span class="task-name" title={node.error ?? titleOf(node)}>
      <span class="task-title">{titleOf(node)}</span>
      {node.label && <span class="task-kind">{node.name}</span>}
      {!node.label && node.executor && node.executor !== node.name && <span class="task-kind">{node.executor}</span>}
      {inline && <span class={node.error ? "task-error" : "task-message"}>{inline}</span>}
    </span>
  );
}

function classesOf(view: RunView, node: TaskNode, isActive: boolean): string {
  const pointed = view.pointed.value;
  const other = pointed === null || pointed === node.id ? undefined : view.store.nodes.get(pointed);
  return [
    "task-row",
    `is-${node.status}`,
    isActive && "is-active",
    other?.dependencies.includes(node.id) && "is-needed",
    pointed !== null && node.dependencies.includes(pointed) && "needs",
  ].filter(Boolean).join(" ");
}

function stateText(node: TaskNode): string {
  if (node.waitsFor === "approval") return "Waits for approval";
  if (node.waitsFor === "budget") return "Waits for budget";
  if (node.waitsFor === "retry" && node.waitsUntil !== null && node.waitsUntil > now.value) {
    return `Retries in ${durationText(node.waitsUntil - now.value)}`;
  }
  if (node.status === "in_progress" && node.progress > 0) return `${Math.floor(node.progress * 100)} %`;
  if (node.cachedFrom) return "From cache";
  return STATUS_TEXT[node.status];
}

function durationOf(node: TaskNode, view: RunView): string {
  if (node.startedAt === null) return "";
  const until = node.completedAt ?? (node.status === "in_progress" ? view.timeline.present.value : null);
  return until === null ? "" : durationText(until - node.startedAt);
}
