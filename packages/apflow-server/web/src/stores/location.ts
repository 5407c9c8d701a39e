/** The route of the page, as a signal. */
import { signal } from "@preact/signals";
import { hrefOf, parseRoute, type Route } from "../model/route";

export const route = signal<Route>(parseRoute(location.hash));

addEventListener("hashchange", () => (route.value = parseRoute(location.hash)));

export function go(to: Route, replace = false): void {
  const href = hrefOf(to);
  if (replace) {
    history.replaceState(null, "", href);
    route.value = to;
  } else location.hash = href;
}
