/** What a task is, why it is in its state, when it ran, and what it depends on. */
import type { TaskResult } from "../../api/_generated_operations";
import { StatusIcon } from "../../components/Icon";
import { Fact } from "../../components/Fact";
import { Time } from "../../components/Time";
import { absoluteText, durationText } from "../../model/format";
import { runHref } from "../../model/route";
import { type TaskNode, titleOf } from "../../model/task_node";
import type { RunView } from "../../stores/run_view";
import { Why } from "../run/WhyDialog";

export interface OverviewProps {
  view: RunView;
  node: TaskNode;
  task: TaskResult | null;
  onOpen: (id: string) => void;
}

export function Overview({ view, node, task, onOpen }: OverviewProps) {
  const error = task?.error ?? node.error;
  const needing = [...view.store.nodes.values()].filter((each) => each.dependencies.includes(node.id)).map((each) => each.id);
  return (
    <>
      {error && <pre class="error-text" tabIndex={0} aria-label="Error">{error}</pre>}
      <section>
        <h3>Why</h3>
        <Why view={view} taskId={node.id} />
      </section>
      <section>
        <h3>Facts</h3>
        <dl class="facts">
          <Fact name="Name">{node.name}</Fact>
          <Fact name="Key"><code>{node.key}</code></Fact>
          <Fact name="Executor">{node.executor ? <code>{node.executor}</code> : "none: it holds other tasks"}</Fact>
          <Fact name="User">{task?.user_id ?? "–"}</Fact>
          <Fact name="Created"><Moment at={node.createdAt} /></Fact>
          <Fact name="Started"><Moment at={node.startedAt} /></Fact>
          <Fact name="Ended"><Moment at={node.completedAt} /></Fact>
          {node.startedAt !== null && node.completedAt !== null && <Fact name="Duration">{durationText(node.completedAt - node.startedAt)}</Fact>}
          {node.tags.length > 0 && <Fact name="Tags">{node.tags.map((tag) => <span key={tag} class="tag">{tag}</span>)}</Fact>}
          {task?.original_task_id && <Fact name="Copy of"><a href={runHref(task.original_task_id)}><code>{task.original_task_id}</code></a></Fact>}
          {task?.spawned_by && <Fact name="Started by"><a href={runHref(task.spawned_by)}><code>{task.spawned_by}</code></a></Fact>}
          {task?.cached_from && <Fact name="Result of"><code>{task.cached_from}</code></Fact>}
          {node.childTrees.map((id) => <Fact key={id} name="Started"><a href={runHref(id)}><code>{id}</code></a></Fact>)}
        </dl>
      </section>
      <Others title="Depends on" ids={node.dependencies} view={view} onOpen={onOpen} />
      <Others title="Needed by" ids={needing} view={view} onOpen={onOpen} />
    </>
  );
}

const MAX_OTHERS = 50;

function Others({ title, ids, view, onOpen }: { title: string; ids: readonly string[]; view: RunView; onOpen: (id: string) => void }) {
  if (ids.length === 0) return null;
  return (
    <section>
      <h3>{title}</h3>
      <ul class="task-list">
        {ids.slice(0, MAX_OTHERS).map((id) => {
          const other = view.store.nodes.get(id);
          return (
            <li key={id}>
              {other && <StatusIcon status={other.status} />}
              <button type="button" class="link" onClick={() => onOpen(id)}>{other ? titleOf(other) : id}</button>
            </li>
          );
        })}
        {ids.length > MAX_OTHERS && <li class="faint">and {ids.length - MAX_OTHERS} more</li>}
      </ul>
    </section>
  );
}

function Moment({ at }: { at: number | null }) {
  if (at === null) return <span class="faint">–</span>;
  return <>{absoluteText(at)} <span class="faint">(<Time at={at} />)</span></>;
}
