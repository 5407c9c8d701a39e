/** The frame of the page: navigation, banner, the view of the route, notices, and keys. */
import { useEffect, useMemo, useState } from "preact/hooks";
import { session } from "./api/session";
import { Banner } from "./components/Banner";
import { ErrorNote, Reading } from "./components/Notes";
import { Notices } from "./components/Notices";
import { HelpDialog } from "./views/HelpDialog";
import { Nav } from "./views/Nav";
import { SignIn } from "./views/SignIn";
import { ApprovalsPage } from "./views/ApprovalsPage";
import { ExecutorsPage } from "./views/ExecutorsPage";
import { SchedulesPage } from "./views/SchedulesPage";
import { SystemPage } from "./views/SystemPage";
import { NewRunPage } from "./views/new_run/NewRunPage";
import { RunPage } from "./views/run/RunPage";
import { RunsPage } from "./views/runs/RunsPage";
import type { Route } from "./model/route";
import { globalKeys } from "./stores/keys";
import { go, route } from "./stores/location";
import { serverSource } from "./stores/server_source";

export function App() {
  const [hasHelp, setHelp] = useState(false);
  useEffect(() => globalKeys(() => setHelp(true)), []);
  const current = session.value;
  if (current.state === "loading") return <Reading />;
  if (current.state === "needed") return <SignIn message={current.message} />;
  return (
    <>
      <a class="skip-link" href="#main" onClick={skip}>Skip to the content</a>
      <Nav view={route.value.view} onHelp={() => setHelp(true)} />
      <main id="main" tabIndex={-1}>
        <Banner />
        <View route={route.value} />
      </main>
      <Notices />
      {hasHelp && <HelpDialog onClose={() => setHelp(false)} />}
    </>
  );
}

function View({ route: to }: { route: Route }) {
  useEffect(() => void (document.title = TITLES[to.view]), [to.view]);
  switch (to.view) {
    case "runs":
      return <RunsPage query={to.query} />;
    case "run":
      return <LiveRun route={to} />;
    case "new":
      return <NewRunPage query={to.query} />;
    case "schedules":
      return <SchedulesPage />;
    case "approvals":
      return <ApprovalsPage />;
    case "executors":
      return <ExecutorsPage id={to.id} />;
    case "system":
      return <SystemPage />;
    default:
      return <ErrorNote>There is no such view.</ErrorNote>;
  }
}

function LiveRun({ route: to }: { route: Route & { view: "run" } }) {
  const source = useMemo(() => serverSource(to.id), [to.id]);
  return <RunPage key={to.id} source={source} place={to} onPlace={(place) => go({ view: "run", id: to.id, ...place })} />;
}

const TITLES: Record<Route["view"], string> = {
  runs: "Runs – apflow",
  run: "Run – apflow",
  new: "New run – apflow",
  schedules: "Schedules – apflow",
  approvals: "Approvals – apflow",
  executors: "Executors – apflow",
  system: "System – apflow",
};

/** The fragment of the address is the route, so the link moves the focus itself. */
function skip(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}
