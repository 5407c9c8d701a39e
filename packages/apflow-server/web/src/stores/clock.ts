/** The time, as a signal: for durations of what runs, and for "5 m ago". */
import { signal } from "@preact/signals";

/** Changes twice a second while the page is visible. */
export const now = signal(Date.now());

setInterval(() => {
  if (document.visibilityState === "visible") now.value = Date.now();
}, 500);
