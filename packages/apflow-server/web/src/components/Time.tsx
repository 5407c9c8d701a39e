/** A time: how far it is from now, and the absolute time on hover. */
import { absoluteText, agoText } from "../model/format";
import { timeOf } from "../model/task_node";
import { now } from "../stores/clock";

export function Time({ at }: { at: string | number | null | undefined }) {
  const time = typeof at === "number" ? at : timeOf(at);
  if (time === null) return <span class="faint">–</span>;
  return (
    <time dateTime={new Date(time).toISOString()} title={absoluteText(time)}>
      {agoText(time, now.value)}
    </time>
  );
}
