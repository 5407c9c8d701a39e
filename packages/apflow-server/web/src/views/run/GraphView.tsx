/** A run drawn as a graph, by dependency or by time, to be moved and scaled. */
import { useEffect, useMemo, useState } from "preact/hooks";
import { Choice } from "../../components/Choice";
import { Reading } from "../../components/Notes";
import { layOut } from "../../graph/layout_in_worker";
import { type Drawing, drawByTime, edgesOf } from "../../model/graph";
import type { GraphProps } from "./GraphTab";
import { GraphCanvas } from "./GraphCanvas";

type Order = "dependency" | "time";

const ORDERS = [["dependency", "By dependency"], ["time", "By time"]] as const;

export function GraphView({ view, onOpen }: GraphProps) {
  const [order, setOrder] = useState<Order>("dependency");
  const [laidOut, setLaidOut] = useState<Drawing | null>(null);
  const structure = view.store.structure.value;
  useEffect(() => {
    const stop = new AbortController();
    const { nodes, source } = view.store;
    void layOut({ ids: [...nodes.keys()], edges: edgesOf(nodes, source.rootId) }, stop.signal).then(setLaidOut);
    return () => stop.abort();
  }, [structure]);
  const axis = view.timeline.axis.value;
  const byTime = useMemo(
    () => (order === "time" ? drawByTime(view.store.nodes, view.store.index, axis, view.timeline.present.peek()) : null),
    [order, axis, structure],
  );
  const drawing = order === "time" ? byTime : laidOut;
  return (
    <div class="graph">
      <div class="graph-tools">
        <Choice label="Order of the graph" chosen={order} choices={ORDERS} onChoose={setOrder} />
        <span class="faint">{order === "time" ? "Tasks that have started, in lanes; groups are left out." : "Lines lead from what is needed; dashed ones from a group to what is in it."}</span>
      </div>
      {drawing === null ? <Reading /> : <GraphCanvas key={order} view={view} drawing={drawing} onOpen={onOpen} />}
    </div>
  );
}
