/** Reading an operation again and again while a view is open: data, and why there is none. */
import { useEffect, useMemo } from "preact/hooks";
import { signal } from "@preact/signals";
import { returns } from "../api/connection";
import { AwayError } from "../api/rpc";
import type { Live } from "./live";

export interface Polled<T> extends Live<T> {
  refresh(): void;
}

const SECOND = 1000;

/**
 * Return what `read` returns, read again every `seconds` while the page is visible, and when the server is back.
 *
 * @param key what the reading depends on: if it changes, the data is read anew.
 */
export function usePolled<T>(read: () => Promise<T>, seconds: number, key = ""): Polled<T> {
  const polled = useMemo(() => new Polling(read, seconds * SECOND), [key]);
  useEffect(() => polled.start(), [polled]);
  return polled;
}

class Polling<T> implements Polled<T> {
  readonly data = signal<T | null>(null);
  readonly error = signal<string | null>(null);
  private timer = 0;
  private reading = 0;

  constructor(
    private readonly read: () => Promise<T>,
    private readonly wait: number,
  ) {}

  start(): () => void {
    const stopReturns = returns.subscribe(() => this.refresh());
    const onVisible = () => document.visibilityState === "visible" && this.refresh();
    document.addEventListener("visibilitychange", onVisible);
    return () => {
      this.reading += 1;
      clearTimeout(this.timer);
      stopReturns();
      document.removeEventListener("visibilitychange", onVisible);
    };
  }

  refresh = (): void => {
    clearTimeout(this.timer);
    const reading = ++this.reading;
    const isCurrent = () => reading === this.reading;
    this.read()
      .then(
        (data) => isCurrent() && ((this.data.value = data), (this.error.value = null)),
        (error: Error) => isCurrent() && !(error instanceof AwayError) && (this.error.value = error.message),
      )
      .finally(() => isCurrent() && this.plan());
  };

  private plan(): void {
    this.timer = window.setTimeout(() => {
      if (document.visibilityState === "visible") this.refresh();
    }, this.wait);
  }
}
