/** Keys that work everywhere, unless the reader writes text. */
import type { Route } from "../model/route";
import { go } from "./location";

const VIEWS: Record<string, Route> = {
  r: { view: "runs", query: {} },
  n: { view: "new", query: {} },
  s: { view: "schedules" },
  a: { view: "approvals" },
  x: { view: "executors", id: null },
  y: { view: "system" },
};

/** Handle the keys until the returned function is called. `g` and a letter lead to a view. */
export function globalKeys(onHelp: () => void, hasViews = true): () => void {
  let isAfterG = false;
  const handle = (event: KeyboardEvent): void => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isWriting(event.target)) return;
    const view = isAfterG && hasViews ? VIEWS[event.key] : undefined;
    isAfterG = event.key === "g";
    if (view) go(view);
    else if (event.key === "?") onHelp();
    else if (event.key === "/") document.getElementById("search")?.focus();
    else return;
    event.preventDefault();
  };
  addEventListener("keydown", handle);
  return () => removeEventListener("keydown", handle);
}

function isWriting(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && (target.closest("input, textarea, select, dialog") !== null || target.isContentEditable);
}
