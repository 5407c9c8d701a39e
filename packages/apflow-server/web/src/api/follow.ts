/** Following a stream of the server across failures: nothing is missed, and nothing comes twice. */
import { type Frame, FrameReader } from "./sse";

export interface Follow {
  address: string;
  headers: Record<string, string>;
  /** What is sent, as JSON; nothing if it is left out. */
  body?: unknown;
  /** The `id` of the last frame that is known; null: from the start of the stream. */
  after: string | null;
}

export type StreamState =
  | { state: "open" }
  /** The run has ended. The stream is asked again from time to time, because the run may be repeated. */
  | { state: "ended" }
  | { state: "away"; reason: string }
  | { state: "refused"; status: number };

export interface Listener {
  frames(frames: Frame[]): void;
  state(state: StreamState): void;
  /** Whether the frame is the last one of the stream. */
  isLast(frame: Frame): boolean;
}

const MIN_WAIT = 300;
const MAX_WAIT = 5_000;
const ENDED_WAIT = 5_000;
/** The server gives a sign of life every 15 seconds. */
const MAX_SILENCE = 40_000;

/** Follow a stream until the signal is aborted. */
export async function follow(what: Follow, listener: Listener, signal: AbortSignal): Promise<void> {
  let after = what.after;
  let wait = MIN_WAIT;
  while (!signal.aborted) {
    const outcome = await readOnce({ ...what, after }, signal, listener, (id) => (after = id));
    if (signal.aborted) return;
    listener.state(outcome);
    if (outcome.state === "refused") return;
    wait = outcome.state === "away" ? Math.min(wait * 2, MAX_WAIT) : MIN_WAIT;
    await pause(outcome.state === "ended" ? ENDED_WAIT : wait, signal);
  }
}

async function readOnce(
  what: Follow,
  signal: AbortSignal,
  listener: Listener,
  received: (id: string) => void,
): Promise<StreamState> {
  const silence = new AbortController();
  const either = AbortSignal.any([signal, silence.signal]);
  let timer = setTimeout(() => silence.abort(), MAX_SILENCE);
  try {
    const response = await fetch(what.address, { ...requestOf(what), signal: either, cache: "no-store" });
    if (response.status === 204) return { state: "ended" };
    if (response.status === 429 || response.status >= 500) return { state: "away", reason: `status ${response.status}` };
    if (!response.ok || response.body === null) return { state: "refused", status: response.status };
    listener.state({ state: "open" });
    const reader = new FrameReader();
    let isOver = false;
    const text = response.body.pipeThrough(new TextDecoderStream());
    for await (const piece of pieces(text)) {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), MAX_SILENCE);
      const frames = reader.read(piece);
      if (frames.length === 0) continue;
      listener.frames(frames);
      for (const frame of frames) {
        if (frame.id !== null) received(frame.id);
        isOver = listener.isLast(frame);
      }
    }
    return isOver ? { state: "ended" } : { state: "away", reason: "the stream has ended" };
  } catch (error) {
    return { state: "away", reason: String(error) };
  } finally {
    clearTimeout(timer);
  }
}

function requestOf({ headers, body, after }: Follow): RequestInit {
  const all = after === null ? headers : { ...headers, "Last-Event-ID": after };
  if (body === undefined) return { headers: all };
  return { method: "POST", headers: { ...all, "Content-Type": "application/json" }, body: JSON.stringify(body) };
}

async function* pieces(stream: ReadableStream<string>): AsyncGenerator<string> {
  const reader = stream.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield value;
    }
  } finally {
    reader.releaseLock();
  }
}

/** Wait, unless the signal is aborted. */
export function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
