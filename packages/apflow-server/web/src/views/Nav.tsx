/** The navigation, with the number of approvals that wait. */
import { endSession, session } from "../api/session";
import { Button } from "../components/Button";
import { Icon, type IconName } from "../components/Icon";
import { type Route, hrefOf } from "../model/route";
import { useLive } from "../stores/live";
import { type Theme, chooseTheme, theme } from "../stores/theme";

const ITEMS: readonly [view: Route["view"], icon: IconName, text: string, to: Route][] = [
  ["runs", "runs", "Runs", { view: "runs", query: {} }],
  ["new", "new", "New run", { view: "new", query: {} }],
  ["schedules", "schedules", "Schedules", { view: "schedules" }],
  ["approvals", "approvals", "Approvals", { view: "approvals" }],
  ["executors", "executors", "Executors", { view: "executors", id: null }],
  ["system", "system", "System", { view: "system" }],
];
const NEXT_THEME: Record<Theme, Theme> = { auto: "light", light: "dark", dark: "auto" };
const MAX_SHOWN = 99;

export function Nav({ view, onHelp }: { view: Route["view"]; onHelp: () => void }) {
  const waiting = useLive("approvals.list", { limit: MAX_SHOWN + 1 }).data.value?.length ?? 0;
  const current = session.value;
  return (
    <nav class="nav" aria-label="Views">
      <span class="brand">apflow</span>
      <ul>
        {ITEMS.map(([name, icon, text, to]) => (
          <li key={name}>
            <a href={hrefOf(to)} aria-current={view === name || (view === "run" && name === "runs") ? "page" : undefined}>
              <Icon name={icon} />
              <span class="nav-text">{text}</span>
              {name === "approvals" && waiting > 0 && <span class="count">{waiting > MAX_SHOWN ? `${MAX_SHOWN}+` : waiting}<span class="unseen"> waiting</span></span>}
            </a>
          </li>
        ))}
      </ul>
      <div class="nav-end">
        {current.state === "open" && current.user !== null && <span class="user" title={current.isAdmin ? "Admin" : "User"}>{current.user}</span>}
        <Button icon="theme" kind="quiet" label={`Theme: ${theme.value}`} onClick={() => chooseTheme(NEXT_THEME[theme.value])} />
        <Button icon="help" kind="quiet" label="Keys" onClick={onHelp} />
        {current.state === "open" && current.canEnd && <Button icon="out" kind="quiet" label="Sign out" onClick={() => void endSession()} />}
      </div>
    </nav>
  );
}
