/** The view of a run that an export contains. Nothing can be changed in it. */
import { useEffect, useMemo, useState } from "preact/hooks";
import { Button } from "./components/Button";
import { ErrorNote } from "./components/Notes";
import { Notices } from "./components/Notices";
import { absoluteText } from "./model/format";
import type { RunDocument } from "./model/run_document";
import { timeOf, titleOf } from "./model/task_node";
import { globalKeys } from "./stores/keys";
import { documentSource } from "./stores/document_source";
import { HelpDialog } from "./views/HelpDialog";
import { type RunPlace, RunPage } from "./views/run/RunPage";

export function ExportedRun({ document: found }: { document: RunDocument | string }) {
  if (typeof found === "string") return <ErrorNote>{found}</ErrorNote>;
  return <Run found={found} />;
}

function Run({ found }: { found: RunDocument }) {
  const [place, setPlace] = useState<RunPlace>({ tab: "tree", taskId: null });
  const [hasHelp, setHelp] = useState(false);
  const source = useMemo(() => documentSource(found), [found]);
  useEffect(() => globalKeys(() => setHelp(true), false), []);
  const root = found.tasks.find((task) => task.id === found.root_id);
  useEffect(() => void (document.title = `${root ? titleOf(root) : found.root_id} – apflow`), []);
  const at = timeOf(found.exported_at);
  return (
    <main id="main">
      <p class="export-note">
        A run of apflow, exported {at === null ? "" : absoluteText(at)}. It does not change any more.
        <Button icon="help" kind="quiet" label="Keys" onClick={() => setHelp(true)} />
      </p>
      <RunPage source={source} place={place} onPlace={setPlace} />
      <Notices />
      {hasHelp && <HelpDialog onClose={() => setHelp(false)} />}
    </main>
  );
}
