/** Addresses within the page: its fragment, read and written. Pure. */

export type Route =
  | { view: "runs"; query: Record<string, string> }
  | { view: "run"; id: string; tab: "tree" | "graph"; taskId: string | null }
  | { view: "new"; query: Record<string, string> }
  | { view: "schedules" }
  | { view: "approvals" }
  | { view: "executors"; id: string | null }
  | { view: "system" };

/** Return the route of a fragment. What is not known leads to the runs. */
export function parseRoute(fragment: string): Route {
  const [path = "", search = ""] = fragment.replace(/^#?\/?/, "").split("?", 2);
  const [view, id, ...rest] = path.split("/").map(decoded);
  switch (view) {
    case "runs":
      if (id) return { view: "run", id, ...runPlace(rest) };
      break;
    case "new":
      return { view: "new", query: queryOf(search) };
    case "executors":
      return { view: "executors", id: id || null };
    case "schedules":
    case "approvals":
    case "system":
      return { view };
  }
  return { view: "runs", query: queryOf(search) };
}

/** Return the address of a route, for `href`. */
export function hrefOf(route: Route): string {
  if (route.view === "run") {
    const graph = route.tab === "graph" ? "/graph" : "";
    const task = route.taskId === null ? "" : `/task/${encodeURIComponent(route.taskId)}`;
    return `#/runs/${encodeURIComponent(route.id)}${graph}${task}`;
  }
  if (route.view === "executors" && route.id !== null) return `#/executors/${encodeURIComponent(route.id)}`;
  const search = "query" in route ? new URLSearchParams(route.query).toString() : "";
  return `#/${route.view}${search && `?${search}`}`;
}

export function runHref(id: string): string {
  return hrefOf({ view: "run", id, tab: "tree", taskId: null });
}

export function taskHref(rootId: string, taskId: string): string {
  return hrefOf({ view: "run", id: rootId, tab: "tree", taskId });
}

function runPlace(rest: string[]): { tab: "tree" | "graph"; taskId: string | null } {
  const tab = rest[0] === "graph" ? "graph" : "tree";
  const place = tab === "graph" ? rest.slice(1) : rest;
  return { tab, taskId: place[0] === "task" && place[1] ? place[1] : null };
}

function queryOf(search: string): Record<string, string> {
  return Object.fromEntries(new URLSearchParams(search));
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
