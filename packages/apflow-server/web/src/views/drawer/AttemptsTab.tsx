/** The attempts of a task: when each began and ended, and how. */
import type { AttemptResult } from "../../api/_generated_operations";
import { EmptyNote, Reading } from "../../components/Notes";
import { Time } from "../../components/Time";
import { durationText } from "../../model/format";
import { timeOf } from "../../model/task_node";
import { useAnswer } from "../../stores/answer";
import type { RunView } from "../../stores/run_view";

export function AttemptsTab({ view, taskId, state }: { view: RunView; taskId: string; state: string }) {
  const { data, error } = useAnswer(() => view.store.source.attempts([taskId]), [taskId, state]);
  if (data === null && error === null) return <Reading />;
  const attempts = data?.get(taskId) ?? [];
  if (attempts.length === 0) return <EmptyNote>There was no attempt.</EmptyNote>;
  return (
    <ol class="attempts">
      {attempts.toReversed().map((attempt) => <Attempt key={attempt.number} attempt={attempt} />)}
    </ol>
  );
}

function Attempt({ attempt }: { attempt: AttemptResult }) {
  const from = timeOf(attempt.started_at);
  const to = timeOf(attempt.ended_at);
  return (
    <li class="attempt">
      <p>
        <strong>Attempt {attempt.number}</strong>{" "}
        <span class={`outcome is-${attempt.outcome ?? "in_progress"}`}>{attempt.outcome ?? "running"}</span>{" "}
        <span class="faint">
          <Time at={from} />
          {from !== null && to !== null && `, ${durationText(to - from)}`}
        </span>
      </p>
      {attempt.error && <pre class="error-text" tabIndex={0} aria-label={`Error of attempt ${attempt.number}`}>{attempt.error_type ? `${attempt.error_type}: ${attempt.error}` : attempt.error}</pre>}
      {attempt.traceback && (
        <details>
          <summary>Traceback</summary>
          <pre tabIndex={0} aria-label="Traceback">{attempt.traceback}</pre>
        </details>
      )}
    </li>
  );
}
