/** The head of the table, with the axis of time. A range is chosen by dragging over it. */
import { useEffect, useRef, useState } from "preact/hooks";
import { absoluteText, clockText, dayText, durationText, shortClockText } from "../../model/format";
import { type Tick, type TimeAxis, ticksOf, timeAt } from "../../model/time_axis";
import type { Timeline } from "../../stores/timeline";

const TICK_WIDTH = 74; // pixels that a mark needs
const DAY = 86_400_000;

export function AxisHead({ timeline }: { timeline: Timeline }) {
  const axis = timeline.axis.value;
  const origin = timeline.runStart() ?? axis.from;
  return (
    <div class="table-head" role="row" aria-rowindex={1}>
      <div class="cell cell-name" role="columnheader">Task</div>
      <div class="cell cell-status" role="columnheader">State</div>
      <div class="cell cell-duration" role="columnheader">Time</div>
      <div class="cell cell-bars" role="columnheader" aria-label="Timeline">
        <Axis axis={axis} origin={origin} onRange={(from, to) => (timeline.zoom.value = { from, to })} />
      </div>
    </div>
  );
}

function Axis({ axis, origin, onRange }: { axis: TimeAxis; origin: number; onRange: (from: number, to: number) => void }) {
  const element = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(600);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => entry && setWidth(entry.contentRect.width));
    if (element.current) observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  const [drag, setDrag] = useState<{ from: number; to: number } | null>(null);
  const placeOfPointer = (event: PointerEvent): number => {
    const box = element.current?.getBoundingClientRect();
    return box ? Math.max(0, Math.min(1, (event.clientX - box.left) / box.width)) : 0;
  };
  const end = () => {
    if (drag && Math.abs(drag.to - drag.from) > 0.01) {
      onRange(timeAt(axis, Math.min(drag.from, drag.to)), timeAt(axis, Math.max(drag.from, drag.to)));
    }
    setDrag(null);
  };
  return (
    <div
      ref={element}
      class="axis"
      title="Drag to choose a range of time"
      onPointerDown={(event) => {
        element.current?.setPointerCapture(event.pointerId);
        const place = placeOfPointer(event);
        setDrag({ from: place, to: place });
      }}
      onPointerMove={(event) => drag && setDrag({ from: drag.from, to: placeOfPointer(event) })}
      onPointerUp={end}
      onPointerCancel={() => setDrag(null)}
    >
      {ticksOf(axis, Math.max(1, width / TICK_WIDTH), origin).map((tick) => (
        <span key={tick.at} class={`tick${tick.place > 1 - (TICK_WIDTH * 0.6) / width ? " is-last" : ""}`} style={{ left: `${tick.place * 100}%` }} title={absoluteText(tick.at)}>
          {tickText(tick, axis, origin)}
        </span>
      ))}
      {axis.parts.map((part) => part.isFolded && (
        <span
          key={part.from}
          class="folded-time"
          style={{ left: `${part.left * 100}%`, width: `${(part.right - part.left) * 100}%` }}
          title={`Nothing ran for ${durationText(part.to - part.from)}: ${clockText(part.from)} to ${clockText(part.to, part.from)}`}
        >
          ⋯
        </span>
      ))}
      {drag && <span class="dragged" style={{ left: `${Math.min(drag.from, drag.to) * 100}%`, width: `${Math.abs(drag.to - drag.from) * 100}%` }} />}
    </div>
  );
}

/** Short runs have marks by the time since their start, long ones by the clock. */
function tickText(tick: Tick, axis: TimeAxis, origin: number): string {
  const length = axis.to - axis.from;
  if (length < DAY / 4) return tick.at === origin ? "0" : durationText(tick.at - origin);
  return length < DAY * 2 ? shortClockText(tick.at) : dayText(tick.at);
}
