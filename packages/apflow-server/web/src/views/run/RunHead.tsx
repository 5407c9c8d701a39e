/** The head of a run: its name, its state, what can be done with it, and the two ways to look at it. */
import { Choice } from "../../components/Choice";
import { CopyAs } from "../../components/CopyAs";
import { CopyButton } from "../../components/CopyButton";
import { StatusBadge } from "../../components/Icon";
import { Time } from "../../components/Time";
import { durationText } from "../../model/format";
import { cancel, copy, execute, watchRun } from "../../model/actions";
import { isEnd } from "../../model/status";
import { hrefOf } from "../../model/route";
import { titleOf } from "../../model/task_node";
import type { RunView } from "../../stores/run_view";
import { TaskActions } from "../drawer/TaskActions";
import type { RunPlace } from "./RunPage";

const TABS = [["tree", "Timeline"], ["graph", "Graph"]] as const;

export function RunHead({ view, place, onPlace }: { view: RunView; place: RunPlace; onPlace: (place: RunPlace) => void }) {
  view.store.tick.value;
  const root = view.store.root;
  if (root === undefined) return null;
  const { isReadOnly } = view.store.source;
  return (
    <header class="view-head run-head">
      <div class="run-title">
        {!isReadOnly && <a class="crumb" href={hrefOf({ view: "runs", query: {} })}>Runs</a>}
        <h1 title={titleOf(root)}>{titleOf(root)}</h1>
        <StatusBadge status={root.status} />
      </div>
      <div class="run-actions">
        <Choice label="View" chosen={place.tab} choices={TABS} onChoose={(tab) => onPlace({ ...place, tab })} />
        {!isReadOnly && <TaskActions node={root} isRoot />}
        {!isReadOnly && <CopyAs actions={[watchRun(root.id), execute(root.id, root.status), ...(isEnd(root.status) ? [] : [cancel(root.id)]), copy(root.id)]} />}
      </div>
      <div class="run-facts">
        <span class="fact"><code>{root.id}</code><CopyButton text={root.id} label="Copy the ID" /></span>
        <span class="fact">started <Time at={root.startedAt ?? root.createdAt} /></span>
        {root.startedAt !== null && <span class="fact">{durationText((root.completedAt ?? view.timeline.present.value) - root.startedAt)}</span>}
        {root.tags.map((tag) => isReadOnly ? <span key={tag} class="tag">{tag}</span> : <a key={tag} class="tag" href={hrefOf({ view: "runs", query: { tag } })}>{tag}</a>)}
      </div>
    </header>
  );
}
