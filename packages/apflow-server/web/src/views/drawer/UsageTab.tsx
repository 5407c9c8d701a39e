/** What the calls of language models of a task used, and its budget. */
import { useState } from "preact/hooks";
import type { BudgetResult, TaskResult, TaskUsageResult } from "../../api/_generated_operations";
import { ActionButton } from "../../components/Button";
import { CopyAs } from "../../components/CopyAs";
import { EmptyNote } from "../../components/Notes";
import { Num, Table } from "../../components/Table";
import { countText, moneyText } from "../../model/format";
import { raiseBudget } from "../../model/actions";
import { perform } from "../../stores/perform";

export function UsageTab({ task, isReadOnly, onChanged }: { task: TaskResult; isReadOnly: boolean; onChanged: () => void }) {
  const { usage, budget_state: budget } = task;
  if (!usage?.calls && !budget) return <EmptyNote>No language models were called.</EmptyNote>;
  return (
    <>
      {usage && usage.calls > 0 && <Usage usage={usage} />}
      {budget && <Budget budget={budget} isReadOnly={isReadOnly} onChanged={onChanged} />}
    </>
  );
}

function Usage({ usage }: { usage: TaskUsageResult }) {
  const rows = [["All", usage] as const, ...Object.entries(usage.by_model)];
  return (
    <Table
      label="Usage by model"
      heads={["Model", "#Calls", "#Input", "#Output", "#Cost"]}
      rows={rows.map(([name, each]) => (
        <tr key={name}>
          <td>{name}</td>
          <Num>{countText(each.calls)}</Num>
          <Num>{countText(each.input_tokens)}</Num>
          <Num>{countText(each.output_tokens)}</Num>
          <Num>{moneyText(each.cost_usd)}{each.unpriced_calls > 0 && "+"}</Num>
        </tr>
      ))}
    />
  );
}

function Budget({ budget, isReadOnly, onChanged }: { budget: BudgetResult; isReadOnly: boolean; onChanged: () => void }) {
  return (
    <section>
      <h3>Budget</h3>
      {Object.entries(budget.limits).map(([amount, limit]) => (
        <Limit key={amount} amount={amount} limit={limit} budget={budget} isReadOnly={isReadOnly} onChanged={onChanged} />
      ))}
      <p class="faint">A call that has no room {budget.on_exceed === "fail" ? "fails" : "waits until the budget is raised"}.</p>
    </section>
  );
}

function Limit({ amount, limit, budget, isReadOnly, onChanged }: { amount: string; limit: number; budget: BudgetResult; isReadOnly: boolean; onChanged: () => void }) {
  const [value, setValue] = useState(String(limit));
  const spent = budget.spent[amount] ?? 0;
  const action = raiseBudget(budget.task_id, { [amount]: Number(value) });
  const isChanged = value !== "" && Number.isFinite(Number(value)) && Number(value) !== limit;
  return (
    <div class="limit">
      <label>{amount}: {shown(amount, spent)} of {shown(amount, limit)}
        <meter min={0} max={Math.max(limit, spent, 1e-9)} value={spent} high={limit * 0.8} />
      </label>
      {!isReadOnly && (
        <span class="form-actions">
          <input type="number" min="0" step="any" aria-label={`New limit: ${amount}`} value={value} onInput={(event) => setValue(event.currentTarget.value)} />
          {isChanged && <ActionButton action={action} onClick={() => void perform(action, "The limit is changed.").then(onChanged)} />}
          {isChanged && <CopyAs actions={[action]} />}
        </span>
      )}
    </div>
  );
}

function shown(amount: string, value: number): string {
  return amount === "usd" ? moneyText(value) : countText(value);
}
