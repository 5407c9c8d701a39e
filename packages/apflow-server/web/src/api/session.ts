/** Who the reader is: an open server, a session by cookie, or a token that is kept in memory. */
import { signal } from "@preact/signals";
import { SESSION, addressOf } from "./root";

export type Session =
  | { state: "loading" }
  | { state: "needed"; message: string | null }
  | { state: "open"; user: string | null; isAdmin: boolean; csrf: string | null; token: string | null; canEnd: boolean };

interface SessionAnswer {
  csrf: string | null;
  user: string | null;
  is_admin: boolean;
  required: boolean;
}

export const session = signal<Session>({ state: "loading" });

/** Find out who the reader is. A token in the fragment of the address is taken out of it at once. */
export async function startSession(): Promise<void> {
  const token = takeTokenFromAddress();
  if (token !== null) {
    await openSession(token);
    return;
  }
  const answer = await fetch(SESSION, { headers: { Accept: "application/json" } }).catch(() => null);
  if (answer?.ok) opened((await answer.json()) as SessionAnswer);
  else if (answer?.status === 401) session.value = { state: "needed", message: null };
  else session.value = { state: "open", user: null, isAdmin: true, csrf: null, token: null, canEnd: false };
}

/** Exchange a token for a session that this browser remembers. */
export async function openSession(token: string): Promise<void> {
  const answer = await fetch(SESSION, { method: "POST", headers: { Authorization: `Bearer ${token}` } }).catch(() => null);
  if (answer?.ok) opened((await answer.json()) as SessionAnswer);
  else session.value = { state: "needed", message: await refusal(answer) };
}

/** Keep a token in the memory of this page only. */
export async function keepToken(token: string): Promise<void> {
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "system.whoami", params: {} });
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${token}` };
  const answer = await fetch(addressOf("tasks"), { method: "POST", headers, body, credentials: "omit" }).catch(() => null);
  if (!answer?.ok) {
    session.value = { state: "needed", message: await refusal(answer) };
    return;
  }
  const { result } = (await answer.json()) as { result: { user_id: string | null; is_admin: boolean } };
  session.value = { state: "open", user: result.user_id, isAdmin: result.is_admin, csrf: null, token, canEnd: true };
}

export async function endSession(): Promise<void> {
  const current = session.value;
  if (current.state === "open" && current.token === null) {
    await fetch(SESSION, { method: "DELETE", headers: authHeaders("DELETE") }).catch(() => null);
  }
  session.value = { state: "needed", message: null };
}

/** The token is not accepted any more: ask for another one. */
export function sessionRefused(message: string): void {
  session.value = { state: "needed", message };
}

export function authHeaders(method: "GET" | "POST" | "DELETE"): Record<string, string> {
  const current = session.value;
  if (current.state !== "open") return {};
  if (current.token !== null) return { Authorization: `Bearer ${current.token}` };
  return current.csrf !== null && method !== "GET" ? { "X-CSRF-Token": current.csrf } : {};
}

function opened(answer: SessionAnswer): void {
  const { csrf, user, is_admin: isAdmin } = answer;
  session.value = { state: "open", user, isAdmin, csrf, token: null, canEnd: answer.required };
}

function takeTokenFromAddress(): string | null {
  const found = /^#token=([^&]+)/.exec(location.hash);
  if (found === null) return null;
  history.replaceState(null, "", location.pathname + location.search);
  return decodeURIComponent(found[1] ?? "");
}

async function refusal(answer: Response | null): Promise<string> {
  if (answer === null) return "The server does not answer. Try again.";
  const said = (await answer.json().catch(() => null)) as { error?: { message?: string } } | null;
  return said?.error?.message ?? `The server refused the token (status ${answer.status}).`;
}
