/** A new run: of one executor by a form, or of a file of tasks. It is checked before it is sent. */
import { useState } from "preact/hooks";
import { Choice } from "../../components/Choice";
import { hrefOf } from "../../model/route";
import { ExecutorForm } from "./ExecutorForm";
import { FileForm } from "./FileForm";

const SOURCES = [["executor", "One executor"], ["file", "A file of tasks"]] as const;

export function NewRunPage({ query }: { query: Record<string, string> }) {
  const [source, setSource] = useState<"executor" | "file">("executor");
  return (
    <div class="view new-run">
      <header class="view-head">
        <h1>New run</h1>
        <Choice label="What to run" chosen={source} choices={SOURCES} onChoose={setSource} />
        <span class="head-actions"><a href={hrefOf({ view: "executors", id: null })}>What executors are there?</a></span>
      </header>
      {source === "executor" ? <ExecutorForm executorId={query["executor"] ?? null} /> : <FileForm />}
    </div>
  );
}
