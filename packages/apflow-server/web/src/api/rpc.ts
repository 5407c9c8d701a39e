/** Calls of operations by JSON-RPC: the only way in which the page reads and changes data. */
import type { Json, Operations } from "./_generated_operations";
import { noteAnswer, noteAway } from "./connection";
import { addressOf } from "./root";
import { parseJson } from "../model/json_text";
import { authHeaders, sessionRefused } from "./session";

export type Method = keyof Operations;
export type Params<M extends Method> = Operations[M]["params"];
export type Result<M extends Method> = Operations[M]["result"];

/** The server refused a call. `violations` lists each fault of the parameters. */
export class RpcError extends Error {
  readonly violations: string[];

  constructor(
    readonly code: number,
    message: string,
    readonly data: Json = null,
  ) {
    super(message);
    const listed = data !== null && typeof data === "object" && !Array.isArray(data) ? data["violations"] : null;
    this.violations = Array.isArray(listed) ? listed.map(String) : [];
  }
}

/** Return what is wrong, as sentences: each fault of the parameters, else the message. */
export function faultsOf(error: unknown): string[] {
  if (error instanceof RpcError && error.violations.length > 0) return error.violations;
  return [error instanceof Error ? error.message : String(error)];
}

/** The server did not answer. */
export class AwayError extends Error {}

interface Answer {
  id: number;
  result?: unknown;
  error?: { code: number; message: string; data?: Json };
}

let lastId = 0;

/** Call one operation. */
export async function call<M extends Method>(method: M, params: Params<M>): Promise<Result<M>> {
  return (await callAny(method, params as Record<string, Json>)) as Result<M>;
}

/** Call an operation that servers of other versions may not have. */
export async function callAny(method: string, params: Record<string, Json>): Promise<unknown> {
  const answer = (await send({ jsonrpc: "2.0", id: ++lastId, method, params })) as Answer;
  if (answer.error) throw new RpcError(answer.error.code, answer.error.message, answer.error.data ?? null);
  return answer.result;
}

/** Call one operation with several parameters, in one request. What fails is null in the results. */
export async function callEach<M extends Method>(method: M, each: Params<M>[]): Promise<(Result<M> | null)[]> {
  if (each.length === 0) return [];
  const requests = each.map((params) => ({ jsonrpc: "2.0", id: ++lastId, method, params }));
  const answers = (await send(requests)) as Answer[];
  const byId = new Map(answers.map((answer) => [answer.id, answer]));
  return requests.map(({ id }) => (byId.get(id)?.result as Result<M> | undefined) ?? null);
}

/** Send JSON, and return the answer. Raises `RpcError` if the server refuses it, `AwayError` if it does not answer. */
export async function send(body: unknown, address = addressOf("tasks")): Promise<unknown> {
  const headers = { "Content-Type": "application/json", ...authHeaders("POST") };
  const request = { method: "POST", headers, body: JSON.stringify(body) };
  const response = await fetch(address, request).catch((error: unknown) => {
    noteAway(String(error));
    throw new AwayError("The server does not answer.");
  });
  const text = await response.text().catch(() => "");
  const read = parsed(text) as { error?: { code: number; message: string; data?: Json } } | null;
  if (response.status === 401) sessionRefused(read?.error?.message ?? "A token is required.");
  if (response.status === 502 || response.status === 504 || read === null) {
    noteAway(`The server answered with status ${response.status}.`);
    throw new AwayError("The server does not answer.");
  }
  noteAnswer();
  if (!response.ok && read.error) throw new RpcError(read.error.code, read.error.message, read.error.data ?? null);
  return read;
}

function parsed(text: string): unknown {
  try {
    return parseJson(text);
  } catch {
    return null;
  }
}
