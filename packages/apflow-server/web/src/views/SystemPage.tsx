/** The server: its database, its workers, what waits, how fast tasks end, what models cost, and webhooks. */
import type { DatabaseResult, HealthResult, MetricsResult, StatisticsResult, TreeWebhookResult, UsageReportResult, WorkerResult } from "../api/_generated_operations";
import { call } from "../api/rpc";
import { session } from "../api/session";
import { ActionButton } from "../components/Button";
import { CopyAs } from "../components/CopyAs";
import { EmptyNote } from "../components/Notes";
import { Num, Table } from "../components/Table";
import { Fact } from "../components/Fact";
import { Time } from "../components/Time";
import { ViewHead } from "../components/ViewHead";
import { vacuum } from "../model/actions";
import { bytesText, countText, durationText, moneyText } from "../model/format";
import { runHref } from "../model/route";
import { perform } from "../stores/perform";
import { usePolled } from "../stores/poll";

const SECONDS = 5;
const HOUR = 3600;

interface SystemState {
  health: HealthResult;
  metrics: MetricsResult;
  hour: StatisticsResult;
  usage: UsageReportResult;
  database: DatabaseResult | null;
  workers: WorkerResult[] | null;
  webhooks: TreeWebhookResult[] | null;
}

export function SystemPage() {
  const current = session.value;
  const isAdmin = current.state === "open" && current.isAdmin;
  const polled = usePolled(() => readState(isAdmin), SECONDS, String(isAdmin));
  const state = polled.data.value;
  return (
    <div class="view">
      <ViewHead title="System" source={polled}>
        {state && <p class="faint">apflow {state.health.version}, up for {durationText(state.health.uptime_seconds * 1000)}</p>}
      </ViewHead>
      {state && <Figures state={state} />}
      {state?.database && <Database database={state.database} onChanged={polled.refresh} />}
      {state?.workers && <Workers workers={state.workers} />}
      {state && <Executors hour={state.hour} />}
      {state?.webhooks && <Webhooks webhooks={state.webhooks} />}
    </div>
  );
}

async function readState(isAdmin: boolean): Promise<SystemState> {
  const ifAdmin = <T,>(read: () => Promise<T>): Promise<T | null> => (isAdmin ? read().catch(() => null) : Promise.resolve(null));
  const [health, metrics, hour, usage, database, workers, webhooks] = await Promise.all([
    call("system.health", {}),
    call("system.metrics", {}),
    call("tasks.stats", { since: "1h" }),
    call("tasks.usage", {}),
    ifAdmin(() => call("system.database", {})),
    ifAdmin(() => call("system.workers", {})),
    ifAdmin(() => call("system.webhooks", {})),
  ]);
  return { health, metrics, hour, usage, database, workers, webhooks };
}

function Figures({ state }: { state: SystemState }) {
  const { metrics, hour, usage } = state;
  const failures = hour.total.failure_rate === null ? "–" : `${(hour.total.failure_rate * 100).toFixed(1)} %`;
  return (
    <div class="cards">
      <Figure title="Runs that are not over" text={countText(metrics.runs_requested)} note={`${countText(metrics.runs_here)} in the process that answers`} />
      <Figure title="Tasks that run" text={countText(metrics.tasks["in_progress"] ?? 0)} note={`${countText(metrics.tasks["pending"] ?? 0)} pending`} />
      <Figure title="Tasks ended in the last hour" text={countText(hour.total.tasks)} note={`${(hour.total.tasks / HOUR).toFixed(2)} per second`} />
      <Figure title="Failed of them" text={failures} note={`${countText(hour.total.retries)} retries`} />
      <Figure title="Spent on models" text={moneyText(usage.total.cost_usd)} note={`${countText(usage.total.calls)} calls, ${countText(usage.total.total_tokens)} tokens`} />
    </div>
  );
}

function Figure({ title, text, note }: { title: string; text: string; note: string }) {
  return (
    <div class="card">
      <p class="faint">{title}</p>
      <p class="figure">{text}</p>
      <p class="faint">{note}</p>
    </div>
  );
}

function Database({ database, onChanged }: { database: DatabaseResult; onChanged: () => void }) {
  const action = vacuum();
  return (
    <section class="card">
      <h2>Database</h2>
      <dl class="facts">
        <Fact name="Where"><code>{database.url}</code></Fact>
        <Fact name="Store">{database.storage}</Fact>
        <Fact name="Size">{database.size_bytes === null ? "not known" : bytesText(database.size_bytes)}</Fact>
        <Fact name="Tasks">{countText(database.tasks.total)}</Fact>
        <Fact name="Shared">{database.is_shared ? "Several processes may open it." : "One process has it open."}</Fact>
        <Fact name="To resume">{countText(database.runs_to_resume)} runs</Fact>
      </dl>
      <p class="form-actions">
        <ActionButton action={action} onClick={() => void perform(action, "The free space is returned to the system.").then(onChanged)} />
        <CopyAs actions={[action]} />
      </p>
    </section>
  );
}

function Workers({ workers }: { workers: readonly WorkerResult[] }) {
  return (
    <>
      <h2>Workers</h2>
      {workers.length === 0 && <EmptyNote>No process runs trees.</EmptyNote>}
      {workers.length > 0 && (
        <Table
          label="Workers"
          heads={["Host", "#Process", "State", "#Runs", "#Limit", "#Calls for others", "Offers", "Last report", "Started", "Version"]}
          rows={workers.map((worker) => (
            <tr key={worker.id}>
              <td>{worker.host}</td><Num>{worker.pid}</Num>
              <td class={worker.status === "lost" ? "no" : ""}>{worker.status}</td>
              <Num>{countText(worker.trees)}</Num><Num>{countText(worker.max_concurrency)}</Num>
              <Num>{countText(worker.calls)}</Num><td>{offerText(worker)}</td>
              <td><Time at={worker.seen_at} /></td><td><Time at={worker.started_at} /></td><td>{worker.version}</td>
            </tr>
          ))}
        />
      )}
    </>
  );
}

/** The amounts and labels that a worker offers to calls, such as `gpu 2, zone eu`. */
function offerText(worker: WorkerResult): string {
  const offered = [...Object.entries(worker.resources), ...Object.entries(worker.labels)];
  return offered.length === 0 ? "–" : offered.map(([name, value]) => `${name} ${value}`).join(", ");
}

function Executors({ hour }: { hour: StatisticsResult }) {
  if (hour.groups.length === 0) return null;
  return (
    <>
      <h2>Executors in the last hour</h2>
      <Table
        label="Executors in the last hour"
        heads={["Executor", "#Ended", "#Failed", "#Retries", "#Median", "#95 %", "#Longest"]}
        rows={hour.groups.map((group) => (
          <tr key={group.group ?? ""}>
            <td><code>{group.group ?? "–"}</code></td><Num>{countText(group.tasks)}</Num><Num isBad={group.failed > 0}>{countText(group.failed)}</Num><Num>{countText(group.retries)}</Num>
            {[group.p50_seconds, group.p95_seconds, group.max_seconds].map((seconds, at) => <Num key={at}>{seconds === null ? "–" : durationText(seconds * 1000)}</Num>)}
          </tr>
        ))}
      />
    </>
  );
}

function Webhooks({ webhooks }: { webhooks: readonly TreeWebhookResult[] }) {
  return (
    <>
      <h2>Webhooks</h2>
      {webhooks.length === 0 && <EmptyNote>No webhook is active or dead.</EmptyNote>}
      {webhooks.length > 0 && (
        <Table
          label="Webhooks"
          heads={["Receiver", "State", "Run", "#Sent", "#Failures", "Last error"]}
          rows={webhooks.map((webhook) => (
            <tr key={webhook.id}>
              <td><code>{webhook.url}</code></td><td class={webhook.status === "dead" ? "no" : ""}>{webhook.status}</td>
              <td><a href={runHref(webhook.root_task_id)}><code>{webhook.root_task_id}</code></a></td>
              <Num>{countText(webhook.sent)}</Num><Num>{countText(webhook.failures)}</Num><td>{webhook.error}</td>
            </tr>
          ))}
        />
      )}
    </>
  );
}
