/** The schedules: when they are due, what they started, and pausing, resuming and starting them. */
import type { ScheduleResult } from "../api/_generated_operations";
import { ActionButton } from "../components/Button";
import { CopyAs } from "../components/CopyAs";
import { EmptyNote } from "../components/Notes";
import { Num, Table } from "../components/Table";
import { Time } from "../components/Time";
import { ViewHead } from "../components/ViewHead";
import { ofSchedule } from "../model/actions";
import { countText } from "../model/format";
import { runHref } from "../model/route";
import { useLive } from "../stores/live";
import { perform } from "../stores/perform";

const LAST_RUNS = 3;

export function SchedulesPage() {
  const live = useLive("schedules.list", {});
  const found = live.data.value;
  return (
    <div class="view">
      <ViewHead title="Schedules" source={live} />
      {found?.length === 0 && (
        <EmptyNote>
          <p>There are no schedules.</p>
          <p>From a shell: <code>apflow schedules create --tasks-file tree.yaml --cron "30 2 * * *"</code></p>
        </EmptyNote>
      )}
      {found !== null && found.length > 0 && (
        <Table
          label="Schedules"
          heads={["Schedule", "Due", "State", "Next", "Last runs", "#Started", ".Actions"]}
          rows={found.map((schedule) => <Schedule key={schedule.id} schedule={schedule} />)}
        />
      )}
    </div>
  );
}

function Schedule({ schedule }: { schedule: ScheduleResult }) {
  const turn = ofSchedule(schedule.is_paused ? "resume" : "pause", schedule.id);
  const trigger = ofSchedule("trigger", schedule.id);
  const isOver = schedule.status === "ended";
  return (
    <tr>
      <td><strong>{schedule.name}</strong>{schedule.user_id && <span class="task-kind"> {schedule.user_id}</span>}{schedule.error && <div class="task-error">{schedule.error}</div>}</td>
      <td><code>{schedule.cron ?? (schedule.every ? `every ${schedule.every}` : "once")}</code>{schedule.cron && schedule.timezone !== "UTC" && <span class="faint"> {schedule.timezone}</span>}</td>
      <td>{schedule.status}</td>
      <td>{schedule.is_paused ? <span class="faint">paused</span> : <Time at={schedule.next_start ?? schedule.next_due} />}</td>
      <td>
        {schedule.runs.length === 0 && <span class="faint">none</span>}
        {schedule.runs.slice(-LAST_RUNS).toReversed().map((run) => (
          <a key={run.task_id} class="last-run" href={runHref(run.task_id)}><Time at={run.scheduled_at} />{schedule.open_trees.includes(run.task_id) && " (runs)"}</a>
        ))}
      </td>
      <Num>{countText(schedule.started_count)}{schedule.skipped_count > 0 && <span class="faint" title="left out"> −{countText(schedule.skipped_count)}</span>}</Num>
      <td>
        <span class="form-actions">
          {!isOver && <ActionButton action={turn} onClick={() => void perform(turn, `${schedule.name}: ${schedule.is_paused ? "resumed" : "paused"}.`)} />}
          <ActionButton action={trigger} onClick={() => void perform(trigger, `${schedule.name}: a run is started.`)} />
          <CopyAs actions={[turn, trigger]} label="" />
        </span>
      </td>
    </tr>
  );
}
