/** What a reader can do, as an operation, and the ways to do the same without the page. Pure. */
import type { Json } from "../api/_generated_operations";

export interface Action {
  /** As on its button. */
  title: string;
  method: string;
  params: { [name: string]: Json };
  /** The arguments of `apflow`. */
  cli: string[];
}

export interface Ways {
  cli: string;
  curl: string;
  a2a: string;
  mcp: string;
}

/** Return the commands and requests that do what an action does, for a server at `root`, which ends in a slash. */
export function waysOf(action: Action, root: string, needsToken: boolean): Ways {
  const server = root.replace(/\/$/, "");
  const auth = needsToken ? ' -H "Authorization: Bearer $APFLOW_API_TOKEN"' : "";
  const json = "-H 'Content-Type: application/json'";
  const message = {
    messageId: "1",
    role: "ROLE_USER",
    parts: [{ data: action.params }],
    metadata: { method: action.method },
  };
  const send = { jsonrpc: "2.0", id: 1, method: "SendMessage", params: { message } };
  const tool = { method: "tools/call", params: { name: action.method.replaceAll(".", "_"), arguments: action.params } };
  return {
    cli: ["apflow", ...action.cli, "--server", server].map(quoted).join(" "),
    curl: `curl ${json}${auth} ${quoted(`${server}/call/${action.method}`)} -d ${quoted(JSON.stringify(action.params))}`,
    a2a: `curl ${json} -H 'A2A-Version: 1.0'${auth} ${quoted(root)} -d ${quoted(JSON.stringify(send))}`,
    mcp: JSON.stringify(tool, null, 2),
  };
}

/** Return a word as a shell of POSIX reads it. */
export function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
