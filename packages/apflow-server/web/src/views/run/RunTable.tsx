/** The tree and the waterfall of a run in one list: a row for each task, a bar beside it. */
import { useEffect, useRef } from "preact/hooks";
import { RowSpace, revealRow, useSlice } from "../../components/VirtualRows";
import type { RunView } from "../../stores/run_view";
import { AxisHead } from "./AxisHead";
import { DependencyLines } from "./DependencyLines";
import { ROW_HEIGHT } from "./row_height";
import { keyHandler } from "./table_keys";
import { TaskRow } from "./TaskRow";

const HEAD_HEIGHT = 30;

export interface RunTableProps {
  view: RunView;
  onOpen: (id: string) => void;
  onWhy: (id: string) => void;
}

export function RunTable({ view, onOpen, onWhy }: RunTableProps) {
  const scroller = useRef<HTMLDivElement>(null);
  const rows = view.rows.value;
  const slice = useSlice(scroller, ROW_HEIGHT, rows.length);
  const active = view.active.value;
  const activeAt = rows.findIndex((row) => row.id === active);
  useEffect(() => {
    if (activeAt >= 0) revealRow(scroller.current, activeAt, ROW_HEIGHT, HEAD_HEIGHT);
  }, [active]);
  const shown = rows.slice(slice.first, slice.last);
  const isActiveShown = activeAt >= slice.first && activeAt < slice.last;
  return (
    <div
      ref={scroller}
      class="run-table"
      id="run-table"
      role="treegrid"
      aria-label="Tasks of the run"
      aria-rowcount={rows.length + 1}
      aria-colcount={4}
      tabIndex={0}
      aria-activedescendant={isActiveShown ? `row-${activeAt}` : undefined}
      onKeyDown={keyHandler(view, { onOpen, onWhy })}
      onFocus={() => (view.pointed.value = view.active.value)}
      onMouseLeave={() => (view.pointed.value = null)}
    >
      <AxisHead timeline={view.timeline} />
      <RowSpace count={rows.length} height={ROW_HEIGHT} first={slice.first}>
        {shown.map((row, at) => (
          <TaskRow key={row.id} view={view} row={row} at={slice.first + at} isActive={row.id === active} onOpen={onOpen} onWhy={onWhy} />
        ))}
        <DependencyLines view={view} rows={rows} first={slice.first} last={slice.last} />
      </RowSpace>
    </div>
  );
}
