/** What of a run is shown: which rows, which of them is active, and in which the reader looks for its dependencies. */
import { type ReadonlySignal, computed, signal } from "@preact/signals";
import { type TreeRow, rowsOf } from "../model/rows";
import { NO_FILTER, type TaskFilter, matcherOf } from "../model/task_filter";
import type { RunStore } from "./run_store";
import { Timeline } from "./timeline";

export class RunView {
  readonly filter = signal<TaskFilter>(NO_FILTER);
  readonly folded = signal<ReadonlySet<string>>(new Set());
  /** The row that keys act on. */
  readonly active = signal<string>("");
  /** The row under the pointer, or the active one while keys are used. */
  readonly pointed = signal<string | null>(null);
  readonly rows: ReadonlySignal<TreeRow[]>;
  readonly timeline: Timeline;

  constructor(readonly store: RunStore) {
    this.active.value = store.source.rootId;
    this.timeline = new Timeline(store);
    this.rows = computed(() => {
      store.structure.value;
      // States decide which rows match only if the reader filters by them.
      if (this.filter.value.status !== null || this.filter.value.text !== "") store.tick.value;
      return rowsOf(store.index, this.folded.value, matcherOf(this.filter.value, store.nodes));
    });
  }

  fold(id: string, isFolded: boolean): void {
    const folded = new Set(this.folded.value);
    if (isFolded) folded.add(id);
    else folded.delete(id);
    this.folded.value = folded;
  }

  foldAll(isFolded: boolean): void {
    const { rootId, children } = this.store.index;
    this.folded.value = isFolded ? new Set([...children.keys()].filter((id) => id !== rootId)) : new Set();
    if (isFolded) this.active.value = rootId;
  }

  /** Unfold what a task is in, so that its row is shown. */
  unfoldTo(id: string): void {
    const folded = new Set(this.folded.value);
    for (let at = this.store.nodes.get(id)?.parentId; at; at = this.store.nodes.get(at)?.parentId) folded.delete(at);
    if (folded.size !== this.folded.value.size) this.folded.value = folded;
  }
}
