/** Notices about what was done, at the edge of the page, announced to screen readers. */
import { dismiss, notices } from "../stores/perform";
import { Button } from "./Button";

export function Notices() {
  return (
    <div class="notices" role="status" aria-live="polite">
      {notices.value.map((notice) => (
        <div key={notice.id} class={`notice${notice.isFailure ? " is-failure" : ""}`}>
          <span>{notice.text}</span>
          <Button icon="close" kind="quiet" label="Dismiss" onClick={() => dismiss(notice.id)} />
        </div>
      ))}
    </div>
  );
}
