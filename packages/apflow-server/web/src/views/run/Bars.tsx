/** The bar of a task: when it was queued, ran, waited, and was tried again. */
import { durationText } from "../../model/format";
import type { Segment } from "../../model/segments";
import type { TaskNode } from "../../model/task_node";
import { type TimeAxis, placeOf } from "../../model/time_axis";
import type { RunView } from "../../stores/run_view";

const MIN_WIDTH = 0.4; // percent of the axis, so that the shortest attempt is seen

const KIND_TEXT: Record<Segment["kind"], string> = {
  queued: "Ready, and waited for its start",
  running: "Ran",
  failed_attempt: "Attempt that failed",
  retry: "Waited for its next attempt",
  waiting: "Waited",
  ended: "Ended",
};

export function Bars({ view, node }: { view: RunView; node: TaskNode }) {
  const axis = view.timeline.axis.value;
  const segments = view.timeline.segmentsOf(node);
  const isGroup = view.store.index.children.has(node.id);
  return (
    <svg class={`bars${isGroup ? " is-group" : ""}`} aria-hidden="true">
      {axis.parts.map((part) => part.isFolded && <rect key={part.from} class="fold" x={percent(part.left)} width={percent(part.right - part.left)} height="100%" />)}
      {segments.map((segment) => (
        <Bar key={`${segment.kind}${segment.from}`} segment={segment} axis={axis} node={node} />
      ))}
    </svg>
  );
}

function Bar({ segment, axis, node }: { segment: Segment; axis: TimeAxis; node: TaskNode }) {
  if (segment.to < axis.from || segment.from > axis.to) return null;
  const left = placeOf(axis, segment.from) * 100;
  const width = Math.max(MIN_WIDTH, placeOf(axis, segment.to) * 100 - left);
  const isThin = segment.kind === "queued" || segment.kind === "retry";
  const attempt = segment.attempt !== null && segment.attempt > 1 ? ` (attempt ${segment.attempt})` : "";
  return (
    <rect
      class={`bar bar-${segment.kind} is-${node.status}`}
      x={`${Math.min(left, 100 - MIN_WIDTH).toFixed(3)}%`}
      width={`${width.toFixed(3)}%`}
      y={isThin ? "45%" : "22%"}
      height={isThin ? "10%" : "56%"}
      rx={isThin ? 0 : 2}
    >
      <title>{`${KIND_TEXT[segment.kind]}${attempt}: ${durationText(segment.to - segment.from)}`}</title>
    </rect>
  );
}

function percent(share: number): string {
  return `${(share * 100).toFixed(3)}%`;
}
