/** The graph of a run, loaded when it is opened. */
import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { EmptyNote, Reading } from "../../components/Notes";
import { countText } from "../../model/format";
import { MAX_TASKS } from "../../model/graph";
import type { RunView } from "../../stores/run_view";

export interface GraphProps {
  view: RunView;
  onOpen: (id: string) => void;
}

export function GraphTab({ view, onOpen }: GraphProps) {
  const [loaded, setLoaded] = useState<{ GraphView: ComponentType<GraphProps> } | null>(null);
  useEffect(() => void import("./GraphView").then(setLoaded), []);
  view.store.structure.value;
  const count = view.store.nodes.size;
  if (count > MAX_TASKS) {
    return <EmptyNote>A graph of {countText(count)} tasks would show nothing. It is drawn for up to {countText(MAX_TASKS)}; the timeline has all of them.</EmptyNote>;
  }
  return loaded === null ? <Reading /> : <loaded.GraphView view={view} onOpen={onOpen} />;
}
