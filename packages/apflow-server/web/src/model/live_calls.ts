/** Calls whose answers are followed, as one request: see "Follow lists" in the documents of the server. Pure. */
import type { Json } from "../api/_generated_operations";

export interface LiveCall {
  readonly method: string;
  readonly params: { [name: string]: Json };
  /** Of the answer that is known; empty if none is. */
  digest: string;
}

const SEPARATOR = "-";

/** Return the calls as a batch of JSON-RPC. The `id` of each is its position. */
export function batchOf(calls: readonly LiveCall[]): unknown[] {
  return calls.map(({ method, params }, id) => ({ jsonrpc: "2.0", id, method, params }));
}

/** Return the `Last-Event-ID` that says which answers are known. */
export function lastEventIdOf(calls: readonly LiveCall[]): string {
  return calls.map((call) => call.digest).join(SEPARATOR);
}

/** Note the answers that are known after an event with this `id`. */
export function noteDigests(calls: readonly LiveCall[], id: string): void {
  id.split(SEPARATOR).forEach((digest, at) => {
    const call = calls[at];
    if (call !== undefined) call.digest = digest;
  });
}
