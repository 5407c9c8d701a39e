/** What a tree would do if it ran now. */
import type { PlanResult } from "../../api/_generated_operations";
import { FaultList } from "../../components/Notes";
import { durationText, moneyText, plural } from "../../model/format";

export function PlanView({ plan }: { plan: PlanResult }) {
  const { capabilities } = plan;
  const touched = [
    ["Executors", capabilities.executors],
    ["Hosts", capabilities.hosts],
    ["Commands", capabilities.commands],
    ["Images", capabilities.images],
    ["Secrets", Object.entries(plan.secrets).map(([name, state]) => (state === "set" ? name : `${name} (${state})`))],
  ] as const;
  return (
    <div class="plan">
      <FaultList faults={plan.problems} />
      <p>
        <strong>{plural(plan.total, "task")}</strong> in {plural(plan.waves.length, "wave")}
        {plan.expected_seconds !== null && `, about ${durationText(plan.expected_seconds * 1000)}`}
        {plan.expected_cost_usd !== null && `, about ${moneyText(plan.expected_cost_usd)}`}
        {plan.without_history > 0 && <span class="faint"> ({plan.without_history} without a history)</span>}
      </p>
      <dl class="facts">
        {touched.filter(([, names]) => names.length > 0).map(([title, names]) => (
          <div key={title}>
            <dt>{title}</dt>
            <dd>{names.map((name) => <code key={name} class="tag">{name}</code>)}</dd>
          </div>
        ))}
      </dl>
    </div>
  );
}
