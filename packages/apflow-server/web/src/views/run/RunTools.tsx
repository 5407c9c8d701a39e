/** Tools of the table of tasks: numbers by state, search, attempts, and time. */
import { Button } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { StatusChips } from "../../components/StatusChips";
import type { AttemptChoice } from "../../model/segments";
import type { RunView } from "../../stores/run_view";
import type { RunPlace } from "./RunPage";

export function RunTools({ view, place }: { view: RunView; place: RunPlace }) {
  return (
    <div class="toolbar">
      <StatusCounts view={view} />
      <label class="search">
        <Icon name="search" />
        <input
          type="search"
          id="search"
          placeholder="Find tasks"
          aria-label="Find tasks by name, label, key, executor or error"
          value={view.filter.value.text}
          onInput={(event) => (view.filter.value = { ...view.filter.value, text: event.currentTarget.value })}
        />
      </label>
      {place.tab === "tree" && <TimeTools view={view} />}
    </div>
  );
}

function StatusCounts({ view }: { view: RunView }) {
  view.store.tick.value;
  const filter = view.filter.value;
  return <StatusChips label="Tasks by state" counts={view.store.counts()} chosen={filter.status} isSummary onChoose={(status) => (view.filter.value = { ...filter, status })} />;
}

function TimeTools({ view }: { view: RunView }) {
  const { timeline } = view;
  return (
    <div class="time-tools">
      <AttemptSelect view={view} />
      <label class="check" title="Shorten spans in which nothing ran">
        <input type="checkbox" checked={timeline.foldsIdle.value} onChange={(event) => (timeline.foldsIdle.value = event.currentTarget.checked)} />
        Fold idle time
      </label>
      <span class="button-group" role="group" aria-label="Range of time">
        <Button label="Show more time" title="Show more time (-)" onClick={() => timeline.scale(2)}>−</Button>
        <Button label="Show all time" title="Show all time (0)" isDisabled={timeline.zoom.value === null} onClick={() => (timeline.zoom.value = null)}>All</Button>
        <Button label="Show less time" title="Show less time (+)" onClick={() => timeline.scale(0.5)}>+</Button>
      </span>
      <span class="button-group" role="group" aria-label="Fold the tree">
        <Button title="Fold all groups" onClick={() => view.foldAll(true)}>Fold</Button>
        <Button title="Unfold all groups" onClick={() => view.foldAll(false)}>Unfold</Button>
      </span>
    </div>
  );
}

function AttemptSelect({ view }: { view: RunView }) {
  view.store.tick.value;
  const most = view.store.mostAttempts;
  if (most < 2) return null;
  const choose = (value: string) => {
    view.store.loadAllAttempts();
    view.timeline.zoom.value = null;
    view.timeline.choice.value = (value === "all" || value === "last" ? value : Number(value)) as AttemptChoice;
  };
  return (
    <label class="select">
      Attempts
      <select value={String(view.timeline.choice.value)} onChange={(event) => choose(event.currentTarget.value)}>
        <option value="all">all</option>
        <option value="last">the last</option>
        {Array.from({ length: Math.min(most, 50) }, (_, at) => <option key={at} value={String(at + 1)}>{at + 1}</option>)}
      </select>
    </label>
  );
}
