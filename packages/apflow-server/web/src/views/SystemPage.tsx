/** The server: its database, its workers, what waits, how fast tasks end, what models cost, and webhooks. */
import type { ComponentChildren } from "preact";
import type { DatabaseResult, HealthResult, MetricsResult, StatisticsResult, TreeWebhookResult, UsageReportResult, WorkerResult } from "../api/_generated_operations";
import { call } from "../api/rpc";
import { session } from "../api/session";
import { ActionButton } from "../components/Button";
import { CopyAs } from "../components/CopyAs";
import { EmptyNote, ErrorNote, Reading } from "../components/Notes";
import { Time } from "../components/Time";
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
  const { data, error, refresh } = usePolled(() => readState(isAdmin), SECONDS, String(isAdmin));
  const state = data.value;
  return (
    <div class="view">
      <header class="view-head">
        <h1>System</h1>
        {state && <p class="faint">apflow {state.health.version}, up for {durationText(state.health.uptime_seconds * 1000)}</p>}
      </header>
      {error.value !== null && <ErrorNote>{error.value}</ErrorNote>}
      {state === null && error.value === null && <Reading />}
      {state && <Figures state={state} />}
      {state?.database && <Database database={state.database} onChanged={refresh} />}
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
        <Row name="Where"><code>{database.url}</code></Row>
        <Row name="Store">{database.storage}</Row>
        <Row name="Size">{database.size_bytes === null ? "not known" : bytesText(database.size_bytes)}</Row>
        <Row name="Tasks">{countText(database.tasks.total)}</Row>
        <Row name="Shared">{database.is_shared ? "Several processes may open it." : "One process has it open."}</Row>
        <Row name="To resume">{countText(database.runs_to_resume)} runs</Row>
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
        <div class="table-scroll" role="region" aria-label="Workers" tabIndex={0}>
          <table>
            <thead><tr><th scope="col">Host</th><th scope="col" class="number">Process</th><th scope="col">State</th><th scope="col" class="number">Runs</th><th scope="col" class="number">Calls at once</th><th scope="col">Last report</th><th scope="col">Started</th><th scope="col">Version</th></tr></thead>
            <tbody>
              {workers.map((worker) => (
                <tr key={worker.id}>
                  <td>{worker.host}</td><td class="number">{worker.pid}</td>
                  <td class={worker.status === "lost" ? "no" : ""}>{worker.status}</td>
                  <td class="number">{countText(worker.trees)}</td><td class="number">{countText(worker.max_concurrency)}</td>
                  <td><Time at={worker.seen_at} /></td><td><Time at={worker.started_at} /></td><td>{worker.version}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </>
  );
}

function Executors({ hour }: { hour: StatisticsResult }) {
  if (hour.groups.length === 0) return null;
  return (
    <>
      <h2>Executors in the last hour</h2>
      <div class="table-scroll" role="region" aria-label="Executors in the last hour" tabIndex={0}>
        <table>
          <thead><tr><th scope="col">Executor</th><th scope="col" class="number">Ended</th><th scope="col" class="number">Failed</th><th scope="col" class="number">Retries</th><th scope="col" class="number">Median</th><th scope="col" class="number">95 %</th><th scope="col" class="number">Longest</th></tr></thead>
          <tbody>
            {hour.groups.map((group) => (
              <tr key={group.group ?? ""}>
                <td><code>{group.group ?? "–"}</code></td><td class="number">{countText(group.tasks)}</td><td class={`number${group.failed > 0 ? " no" : ""}`}>{countText(group.failed)}</td><td class="number">{countText(group.retries)}</td>
                {[group.p50_seconds, group.p95_seconds, group.max_seconds].map((seconds, at) => <td key={at} class="number">{seconds === null ? "–" : durationText(seconds * 1000)}</td>)}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}

function Webhooks({ webhooks }: { webhooks: readonly TreeWebhookResult[] }) {
  return (
    <>
      <h2>Webhooks</h2>
      {webhooks.length === 0 && <EmptyNote>No webhook is active or dead.</EmptyNote>}
      {webhooks.length > 0 && (
        <div class="table-scroll" role="region" aria-label="Webhooks" tabIndex={0}>
          <table>
            <thead><tr><th scope="col">Receiver</th><th scope="col">State</th><th scope="col">Run</th><th scope="col" class="number">Sent</th><th scope="col" class="number">Failures</th><th scope="col">Last error</th></tr></thead>
            <tbody>
              {webhooks.map((webhook) => (
                <tr key={webhook.id}>
                  <td><code>{webhook.url}</code></td><td class={webhook.status === "dead" ? "no" : ""}>{webhook.status}</td>
                  <td><a href={runHref(webhook.root_task_id)}><code>{webhook.root_task_id}</code></a></td>
                  <td class="number">{countText(webhook.sent)}</td><td class="number">{countText(webhook.failures)}</td><td>{webhook.error}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </>
  );
}

function Row({ name, children }: { name: string; children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
