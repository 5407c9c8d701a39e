/** A new run: of one executor by a form, or of a file of tasks. It is checked before it is sent. */
import { useState } from "preact/hooks";
import { hrefOf } from "../../model/route";
import { ExecutorForm } from "./ExecutorForm";
import { FileForm } from "./FileForm";

export function NewRunPage({ query }: { query: Record<string, string> }) {
  const [source, setSource] = useState<"executor" | "file">("executor");
  return (
    <div class="view new-run">
      <header class="view-head">
        <h1>New run</h1>
        <div class="tabs" role="group" aria-label="What to run">
          <button type="button" class="tab" aria-pressed={source === "executor"} onClick={() => setSource("executor")}>One executor</button>
          <button type="button" class="tab" aria-pressed={source === "file"} onClick={() => setSource("file")}>A file of tasks</button>
        </div>
        <span class="head-actions"><a href={hrefOf({ view: "executors", id: null })}>What executors are there?</a></span>
      </header>
      {source === "executor" ? <ExecutorForm executorId={query["executor"] ?? null} /> : <FileForm />}
    </div>
  );
}
