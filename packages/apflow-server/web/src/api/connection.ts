/** Whether the server answers: what the banner shows, and when views read again. */
import { signal } from "@preact/signals";
import type { StreamState } from "./follow";
import { sessionRefused } from "./session";

/** Why the server cannot be reached, or null while it answers. */
export const away = signal<string | null>(null);

/** Counts how often the server came back. Views that poll read again when it changes. */
export const returns = signal(0);

export function noteAnswer(): void {
  if (away.value === null) return;
  away.value = null;
  returns.value += 1;
}

/** Note what the state of a stream says about the server, and about the session. */
export function noteState(state: StreamState): void {
  if (state.state === "away") noteAway(state.reason);
  else noteAnswer();
  if (state.state === "refused" && state.status === 401) sessionRefused("The session has ended.");
}

export function noteAway(reason: string): void {
  away.value = reason;
}
