/** Doing what an action says, and showing the reader how it ended. */
import { signal } from "@preact/signals";
import { RpcError, callAny } from "../api/rpc";
import type { Action } from "../model/action";

export interface Notice {
  id: number;
  text: string;
  isFailure: boolean;
}

export const notices = signal<readonly Notice[]>([]);
/** The actions that are being done, by their operation and parameters. */
export const busy = signal<ReadonlySet<string>>(new Set());

const SHOWN_MILLISECONDS = 6_000;
let lastId = 0;

/** Do an action. Its failure is shown, and undefined is returned. */
export async function perform(action: Action, done?: string): Promise<unknown> {
  const key = keyOf(action);
  busy.value = new Set([...busy.value, key]);
  try {
    const result = await callAny(action.method, action.params);
    if (done) notify(done);
    return result ?? null;
  } catch (error) {
    notify(sentenceOf(error, action), true);
    return undefined;
  } finally {
    busy.value = new Set([...busy.value].filter((each) => each !== key));
  }
}

export function isBusy(action: Action): boolean {
  return busy.value.has(keyOf(action));
}

export function notify(text: string, isFailure = false): void {
  const notice = { id: ++lastId, text, isFailure };
  notices.value = [...notices.value.slice(-3), notice];
  setTimeout(() => dismiss(notice.id), isFailure ? SHOWN_MILLISECONDS * 2 : SHOWN_MILLISECONDS);
}

export function dismiss(id: number): void {
  notices.value = notices.value.filter((each) => each.id !== id);
}

function keyOf(action: Action): string {
  return action.method + JSON.stringify(action.params);
}

function sentenceOf(error: unknown, action: Action): string {
  const faults = error instanceof RpcError ? error.violations.slice(0, 5).join(" ") : "";
  return `${action.title}: ${error instanceof Error ? error.message : String(error)} ${faults}`.trim();
}
