/** Lines from what a task needs to its bar, and from it to what needs it, for the row that is pointed at. */
import type { TreeRow } from "../../model/rows";
import { placeOf } from "../../model/time_axis";
import type { RunView } from "../../stores/run_view";
import { ROW_HEIGHT } from "./row_height";

const WIDTH = 1000;
const MAX_LINES = 60;

export interface DependencyLinesProps {
  view: RunView;
  rows: readonly TreeRow[];
  first: number;
  last: number;
}

export function DependencyLines({ view, rows, first, last }: DependencyLinesProps) {
  const pointed = view.pointed.value;
  const node = pointed === null ? undefined : view.store.nodes.get(pointed);
  if (node === undefined) return null;
  const places = new Map<string, number>();
  rows.forEach((row, at) => places.set(row.id, at));
  const needed = node.dependencies.map((id) => [id, node.id] as const);
  const needing = rows.slice(first, last).filter((row) => view.store.nodes.get(row.id)?.dependencies.includes(node.id));
  const pairs = [...needed, ...needing.map((row) => [node.id, row.id] as const)].slice(0, MAX_LINES);
  const height = (last - first) * ROW_HEIGHT;
  return (
    <div class="lines-cell" role="presentation">
      <svg class="dependency-lines" viewBox={`0 0 ${WIDTH} ${height}`} preserveAspectRatio="none" style={{ height: `${height}px` }} aria-hidden="true">
        {pairs.map(([from, to]) => {
          const path = pathOf(view, from, to, places, first);
          return path && <path key={`${from} ${to}`} d={path} />;
        })}
      </svg>
    </div>
  );
}

function pathOf(view: RunView, from: string, to: string, places: ReadonlyMap<string, number>, first: number): string | null {
  const [fromAt, toAt] = [places.get(from), places.get(to)];
  const [source, target] = [view.store.nodes.get(from), view.store.nodes.get(to)];
  if (fromAt === undefined || toAt === undefined || !source || !target) return null;
  const end = source.completedAt ?? source.startedAt;
  if (end === null) return null;
  const axis = view.timeline.axis.value;
  const x0 = placeOf(axis, end) * WIDTH;
  const x1 = placeOf(axis, target.startedAt ?? end) * WIDTH;
  const y0 = (fromAt - first + 0.5) * ROW_HEIGHT;
  const y1 = (toAt - first + 0.5) * ROW_HEIGHT;
  return `M${x0.toFixed(1)} ${y0} L${x0.toFixed(1)} ${y1} L${x1.toFixed(1)} ${y1}`;
}
