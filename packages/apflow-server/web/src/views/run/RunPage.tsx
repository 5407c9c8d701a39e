/** One run: its head, its table or graph, and the drawer of the task that is open. */
import { useEffect, useMemo, useState } from "preact/hooks";
import { EmptyNote, ErrorNote, Reading } from "../../components/Notes";
import { RunStore } from "../../stores/run_store";
import type { RunSource } from "../../stores/run_source";
import { RunView } from "../../stores/run_view";
import { TaskDrawer } from "../drawer/TaskDrawer";
import { GraphTab } from "./GraphTab";
import { RunHead } from "./RunHead";
import { RunTable } from "./RunTable";
import { RunTools } from "./RunTools";
import { WhyDialog } from "./WhyDialog";

export interface RunPlace {
  tab: "tree" | "graph";
  taskId: string | null;
}

export interface RunPageProps {
  source: RunSource;
  place: RunPlace;
  onPlace: (place: RunPlace) => void;
}

export function RunPage({ source, place, onPlace }: RunPageProps) {
  const view = useMemo(() => new RunView(new RunStore(source)), [source]);
  const [whyId, setWhyId] = useState<string | null>(null);
  useEffect(() => {
    view.store.start();
    return () => view.store.stop();
  }, [view]);
  const { taskId } = place;
  const structure = view.store.structure.value;
  useEffect(() => {
    if (taskId === null || structure === 0) return;
    view.unfoldTo(taskId);
    view.active.value = taskId;
  }, [taskId, structure > 0]);
  const close = () => {
    onPlace({ ...place, taskId: null });
    requestAnimationFrame(() => document.getElementById("run-table")?.focus());
  };
  if (view.store.failure.value !== null && structure === 0) return <ErrorNote>{view.store.failure.value}</ErrorNote>;
  if (structure === 0) return <Reading />;
  const openTask = (id: string) => onPlace({ ...place, taskId: id });
  return (
    <div class={`run-page${taskId !== null ? " has-drawer" : ""}`}>
      <div class="run-main">
        <RunHead view={view} place={place} onPlace={onPlace} />
        <RunTools view={view} place={place} />
        {place.tab === "graph" ? <GraphTab view={view} onOpen={openTask} /> : <RunTable view={view} onOpen={openTask} onWhy={setWhyId} />}
        {view.rows.value.length === 0 && <EmptyNote>No task matches.</EmptyNote>}
      </div>
      {taskId !== null && <TaskDrawer key={taskId} view={view} taskId={taskId} onClose={close} onOpen={openTask} />}
      {whyId !== null && <WhyDialog view={view} taskId={whyId} onClose={() => setWhyId(null)} />}
    </div>
  );
}
