/** The drawer: everything about one task. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { TaskResult } from "../../api/_generated_operations";
import { Button } from "../../components/Button";
import { CopyAs } from "../../components/CopyAs";
import { CopyButton } from "../../components/CopyButton";
import { StatusBadge } from "../../components/Icon";
import { ErrorNote } from "../../components/Notes";
import { cancel, copy, execute, followLogs, fork } from "../../model/actions";
import { isEnd } from "../../model/status";
import { titleOf } from "../../model/task_node";
import type { RunView } from "../../stores/run_view";
import { ApprovalCard } from "./ApprovalCard";
import { AttemptsTab } from "./AttemptsTab";
import { InputsTab } from "./InputsTab";
import { LogsTab } from "./LogsTab";
import { Overview } from "./Overview";
import { ResultTab } from "./ResultTab";
import { TaskActions } from "./TaskActions";
import { UsageTab } from "./UsageTab";

const TABS = ["Overview", "Inputs", "Result", "Logs", "Attempts", "Usage"] as const;
type Tab = (typeof TABS)[number];

export interface TaskDrawerProps {
  view: RunView;
  taskId: string;
  onClose: () => void;
  onOpen: (id: string) => void;
}

/** The tab that the reader looked at last: it stays when another task is opened. */
let lastTab: Tab = "Overview";

export function TaskDrawer({ view, taskId, onClose, onOpen }: TaskDrawerProps) {
  const [tab, setTab] = useState<Tab>(lastTab);
  const [task, setTask] = useState<TaskResult | null>(null);
  const [failure, setFailure] = useState<string | null>(null);
  const title = useRef<HTMLHeadingElement>(null);
  view.store.tick.value;
  const node = view.store.nodes.get(taskId);
  const state = `${node?.status}/${node?.attempts}`;
  const read = () => view.store.source.task(taskId).then(setTask, (error: Error) => setFailure(error.message));
  useEffect(() => void read(), [state]);
  useEffect(() => title.current?.focus(), []);
  const { isReadOnly } = view.store.source;
  const name = node ? titleOf(node) : taskId;
  return (
    <section class="drawer" role="dialog" aria-label={`Task ${name}`} onKeyDown={(event) => event.key === "Escape" && (event.stopPropagation(), onClose())}>
      <header class="drawer-head">
        <div class="drawer-title">
          <h2 ref={title} tabIndex={-1} title={name}>{name}</h2>
          <Button icon="close" kind="quiet" label="Close the drawer" onClick={onClose} />
        </div>
        <div class="run-facts">
          {node && <StatusBadge status={node.status} />}
          <span class="fact"><code>{taskId}</code><CopyButton text={taskId} label="Copy the ID" /></span>
        </div>
        {node && !isReadOnly && (
          <div class="drawer-actions">
            <TaskActions node={node} isRoot={node.id === view.store.source.rootId} />
            <CopyAs actions={[execute(node.id, node.status), ...(isEnd(node.status) ? [] : [cancel(node.id)]), copy(node.id), fork(node.id, null), followLogs(node.id)]} />
          </div>
        )}
        <div class="tabs" role="tablist" aria-label="About the task" onKeyDown={(event) => moveTab(event, tab, choose)}>
          {TABS.map((each) => (
            <button key={each} type="button" class="tab" role="tab" id={`tab-${each}`} aria-controls="drawer-panel" aria-selected={tab === each} tabIndex={tab === each ? 0 : -1} onClick={() => choose(each)}>
              {each}
            </button>
          ))}
        </div>
      </header>
      <div class="drawer-panel" role="tabpanel" id="drawer-panel" aria-labelledby={`tab-${tab}`} tabIndex={0}>
        {failure !== null && <ErrorNote>{failure}</ErrorNote>}
        {node?.waitsFor === "approval" && !isReadOnly && <ApprovalCard taskId={taskId} />}
        {tab === "Overview" && node && <Overview view={view} node={node} task={task} onOpen={onOpen} />}
        {tab === "Inputs" && task && <InputsTab view={view} task={task} />}
        {tab === "Result" && task && <ResultTab view={view} task={task} />}
        {tab === "Logs" && <LogsTab view={view} taskId={taskId} state={state} />}
        {tab === "Attempts" && <AttemptsTab view={view} taskId={taskId} state={state} />}
        {tab === "Usage" && task && <UsageTab task={task} isReadOnly={isReadOnly} onChanged={read} />}
      </div>
    </section>
  );

  function choose(next: Tab): void {
    lastTab = next;
    setTab(next);
  }
}

function moveTab(event: KeyboardEvent, tab: Tab, choose: (tab: Tab) => void): void {
  const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
  if (by === 0) return;
  event.preventDefault();
  const next = TABS[(TABS.indexOf(tab) + by + TABS.length) % TABS.length] as Tab;
  choose(next);
  document.getElementById(`tab-${next}`)?.focus();
}
