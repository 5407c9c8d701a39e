/** Lists of the server that stay up to date while a view shows them: one stream for the page, continued where it stopped. */
import { useEffect, useMemo } from "preact/hooks";
import { type Signal, signal } from "@preact/signals";
import type { Json } from "../api/_generated_operations";
import { noteState } from "../api/connection";
import { follow, pause } from "../api/follow";
import { addressOf } from "../api/root";
import { type Method, type Params, type Result, send } from "../api/rpc";
import { authHeaders } from "../api/session";
import type { Frame } from "../api/sse";
import { parseJson } from "../model/json_text";
import { type LiveCall, batchOf, lastEventIdOf, noteDigests } from "../model/live_calls";

/** What a view shows, and why it cannot be read. */
export interface Live<T> {
  data: Signal<T | null>;
  error: Signal<string | null>;
}

interface Answer {
  id: number;
  result?: unknown;
  error?: { message: string };
}

class Followed implements Live<unknown>, LiveCall {
  readonly data = signal<unknown>(null);
  readonly error = signal<string | null>(null);
  digest = "";
  views = 0;

  constructor(
    readonly method: string,
    readonly params: { [name: string]: Json },
  ) {}

  take({ result, error }: Answer): void {
    this.error.value = error?.message ?? null;
    if (error === undefined) this.data.value = result;
  }
}

/** Milliseconds between two readings where there is no stream. */
const POLL_WAIT = 5_000;

const followed = new Map<string, Followed>();
let timer = 0;
let openKeys = "";
let current = new AbortController();

/** Return the result of an operation that is a list. It changes with the list while the view is open. */
export function useLive<M extends Method>(method: M, params: Params<M>): Live<Result<M>> {
  const key = method + JSON.stringify(params);
  const call = useMemo(() => followedOf(key, method, params as { [name: string]: Json }), [key]);
  useEffect(() => {
    followed.set(key, call);
    call.views += 1;
    reopenSoon();
    return () => {
      call.views -= 1;
      if (call.views === 0) followed.delete(key);
      reopenSoon();
    };
  }, [call]);
  return call as Live<Result<M>>;
}

function followedOf(key: string, method: string, params: { [name: string]: Json }): Followed {
  const call = followed.get(key) ?? new Followed(method, params);
  followed.set(key, call);
  return call;
}

/** Open the stream for what is shown now, once for all views that change together. A hidden page has none. */
function reopenSoon(): void {
  clearTimeout(timer);
  timer = window.setTimeout(() => {
    const keys = document.visibilityState === "visible" ? [...followed.keys()].join("\n") : "";
    if (keys === openKeys) return;
    openKeys = keys;
    current.abort();
    current = new AbortController();
    if (keys !== "") void followAll([...followed.values()], current.signal);
  });
}

document.addEventListener("visibilitychange", reopenSoon);

async function followAll(calls: readonly Followed[], signal: AbortSignal): Promise<void> {
  const request = { address: addressOf("follow"), headers: authHeaders("POST"), body: batchOf(calls), after: lastEventIdOf(calls) };
  const stopped = new AbortController();
  let isOpen = false;
  await follow(request, {
    frames: (frames) => {
      for (const frame of frames) takeFrame(calls, frame);
    },
    state: (state) => {
      noteState(state);
      // Some proxies hold streams back: they open, and not even the first answers come.
      if (state.state === "away" && isOpen && calls.some((call) => call.digest === "")) stopped.abort();
      isOpen = state.state === "open";
    },
    isLast: () => false,
  }, AbortSignal.any([signal, stopped.signal]));
  await poll(calls, signal);
}

async function poll(calls: readonly Followed[], signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const answers = (await send(batchOf(calls)).catch(() => [])) as Answer[];
    if (!signal.aborted) for (const answer of answers) calls[answer.id]?.take(answer);
    await pause(POLL_WAIT, signal);
  }
}

function takeFrame(calls: readonly Followed[], frame: Frame): void {
  const answer = parseJson(frame.data) as Answer;
  calls[answer.id]?.take(answer);
  if (frame.id !== null) noteDigests(calls, frame.id);
}
