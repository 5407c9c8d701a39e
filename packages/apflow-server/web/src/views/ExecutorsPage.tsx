/** The executors: what they do, their inputs, what is missing, and those that can be installed. */
import type { AvailableExecutorResult, ExecutorResult, Json } from "../api/_generated_operations";
import { call } from "../api/rpc";
import { CopyButton } from "../components/CopyButton";
import { ErrorNote } from "../components/Notes";
import { Table } from "../components/Table";
import { ViewHead } from "../components/ViewHead";
import { hrefOf } from "../model/route";
import { type Field, fieldsOf } from "../model/schema_fields";
import { usePolled } from "../stores/poll";

const SECONDS = 60;

export function ExecutorsPage({ id }: { id: string | null }) {
  const polled = usePolled(() => call("system.executors", {}), SECONDS);
  const available = usePolled(() => call("system.available_executors", {}), SECONDS).data.value ?? [];
  const found = polled.data.value;
  const open = found?.find((executor) => executor.id === id);
  return (
    <div class="view">
      <ViewHead title="Executors" source={polled} />
      {open && <ExecutorCard executor={open} />}
      {found && <ExecutorTable executors={found} openId={id} />}
      {available.length > 0 && <AvailableTable executors={available} />}
    </div>
  );
}

function ExecutorTable({ executors, openId }: { executors: readonly ExecutorResult[]; openId: string | null }) {
  return (
    <Table
      label="Executors"
      heads={["Executor", "What it does", "State", "-From"]}
      rows={executors.map((executor) => (
        <tr key={executor.id}>
          <td><a href={hrefOf({ view: "executors", id: executor.id })} aria-current={executor.id === openId ? "true" : undefined}><code>{executor.id}</code></a></td>
          <td>{executor.description}{executor.problem && <div class="task-error">{executor.problem}</div>}</td>
          <td>{executor.is_usable ? <span class="yes">usable</span> : <span class="no">not usable</span>}</td>
          <td class="wide-only faint">{executor.distribution} {executor.version}</td>
        </tr>
      ))}
    />
  );
}

function ExecutorCard({ executor }: { executor: ExecutorResult }) {
  const fields = fieldsOf(executor.input_schema);
  return (
    <article class="card">
      <h2>{executor.name ?? executor.id}</h2>
      <p>{executor.description}</p>
      {executor.problem && <ErrorNote>{executor.problem}</ErrorNote>}
      {executor.is_usable && <p class="form-actions"><a class="button" href={hrefOf({ view: "new", query: { executor: executor.id } })}>New run with it</a></p>}
      <h3>Inputs</h3>
      {fields.length === 0 && <p class="faint">It takes no inputs that it describes.</p>}
      <dl class="inputs">
        {fields.map((field) => <Input key={field.name} field={field} />)}
      </dl>
      <details>
        <summary>JSON Schema</summary>
        <pre tabIndex={0} aria-label="JSON Schema of the inputs">{JSON.stringify(executor.input_schema as Json, null, 2)}</pre>
      </details>
    </article>
  );
}

function Input({ field }: { field: Field }) {
  return (
    <div>
      <dt><code>{field.name}</code> <span class="faint">{field.kind}{field.isRequired && ", required"}</span></dt>
      <dd>{field.description}{field.placeholder && <> <code class="faint">{field.placeholder}</code></>}</dd>
    </div>
  );
}

function AvailableTable({ executors }: { executors: readonly AvailableExecutorResult[] }) {
  return (
    <>
      <h2>Can be installed</h2>
      <Table
        label="Executors that can be installed"
        heads={["Executor", "What it does", "Install it"]}
        rows={executors.map((executor) => (
          <tr key={executor.id}>
            <td><code>{executor.id}</code></td>
            <td>{executor.description}</td>
            <td><code>{executor.install}</code> <CopyButton text={executor.install} label={`Copy: ${executor.install}`} /></td>
          </tr>
        ))}
      />
    </>
  );
}
