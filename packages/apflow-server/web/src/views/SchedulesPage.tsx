/** The schedules: when they are due, what they started, and pausing, resuming and starting them. */
import type { ScheduleResult } from "../api/_generated_operations";
import { call } from "../api/rpc";
import { ActionButton } from "../components/Button";
import { CopyAs } from "../components/CopyAs";
import { EmptyNote, ErrorNote, Reading } from "../components/Notes";
import { Time } from "../components/Time";
import { ofSchedule } from "../model/actions";
import { countText } from "../model/format";
import { runHref } from "../model/route";
import { usePolled } from "../stores/poll";
import { perform } from "../stores/perform";

const SECONDS = 5;
const LAST_RUNS = 3;

export function SchedulesPage() {
  const { data, error, refresh } = usePolled(() => call("schedules.list", {}), SECONDS);
  const found = data.value;
  return (
    <div class="view">
      <header class="view-head"><h1>Schedules</h1></header>
      {error.value !== null && <ErrorNote>{error.value}</ErrorNote>}
      {found === null && error.value === null && <Reading />}
      {found?.length === 0 && (
        <EmptyNote>
          <p>There are no schedules.</p>
          <p>From a shell: <code>apflow schedules create --tasks-file tree.yaml --cron "30 2 * * *"</code></p>
        </EmptyNote>
      )}
      {found !== null && found.length > 0 && (
        <div class="table-scroll" role="region" aria-label="Schedules" tabIndex={0}>
          <table>
            <thead>
              <tr>
                <th scope="col">Schedule</th><th scope="col">Due</th><th scope="col">State</th><th scope="col">Next</th>
                <th scope="col">Last runs</th><th scope="col" class="number">Started</th><th scope="col"><span class="unseen">Actions</span></th>
              </tr>
            </thead>
            <tbody>{found.map((schedule) => <Schedule key={schedule.id} schedule={schedule} onChanged={refresh} />)}</tbody>
          </table>
        </div>
      )}
    </div>
  );
}

function Schedule({ schedule, onChanged }: { schedule: ScheduleResult; onChanged: () => void }) {
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
      <td class="number">{countText(schedule.started_count)}{schedule.skipped_count > 0 && <span class="faint" title="left out"> −{countText(schedule.skipped_count)}</span>}</td>
      <td>
        <span class="form-actions">
          {!isOver && <ActionButton action={turn} onClick={() => void perform(turn, `${schedule.name}: ${schedule.is_paused ? "resumed" : "paused"}.`).then(onChanged)} />}
          <ActionButton action={trigger} onClick={() => void perform(trigger, `${schedule.name}: a run is started.`).then(onChanged)} />
          <CopyAs actions={[turn, trigger]} label="" />
        </span>
      </td>
    </tr>
  );
}
