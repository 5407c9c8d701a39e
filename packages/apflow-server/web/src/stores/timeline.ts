/** What the waterfall shows: its range, its axis, and which attempts. */
import { type ReadonlySignal, computed, signal } from "@preact/signals";
import { type AttemptChoice, type Segment, readyAt, segmentsOf } from "../model/segments";
import type { TaskNode } from "../model/task_node";
import { type Span, type TimeAxis, axisOf } from "../model/time_axis";
import { now } from "./clock";
import type { RunStore } from "./run_store";

/** What waits for people says nothing about when something ran. */
const WAITING_EXECUTORS = new Set(["approval_executor"]);

export class Timeline {
  readonly choice = signal<AttemptChoice>("all");
  readonly foldsIdle = signal(true);
  /** The part of time that the reader has chosen; null: all of it. */
  readonly zoom = signal<Span | null>(null);
  readonly axis: ReadonlySignal<TimeAxis>;
  /** The time up to which bars of running tasks go. */
  readonly present: ReadonlySignal<number>;

  constructor(private readonly store: RunStore) {
    this.present = computed(() => {
      store.tick.value;
      const root = store.root;
      return root?.completedAt ?? (store.source.isReadOnly ? this.lastEnd() : now.value);
    });
    this.axis = computed(() => this.makeAxis());
  }

  segmentsOf(node: TaskNode): Segment[] {
    const ready = readyAt(node, this.store.nodes, this.runStart());
    return segmentsOf(node, this.store.attemptsOf(node), ready, this.present.value, this.choice.value);
  }

  runStart(): number | null {
    return this.store.root?.startedAt ?? null;
  }

  /** Show a part of time that is `factor` times as long, around a place of the axis. */
  scale(factor: number, around = 0.5): void {
    const { from, to } = this.axis.value;
    const whole = this.wholeRange(this.busySpans());
    const middle = from + (to - from) * around;
    const length = (to - from) * factor;
    if (length >= whole.to - whole.from) this.zoom.value = null;
    else this.zoom.value = clamped({ from: middle - length * around, to: middle + length * (1 - around) }, whole);
  }

  /** Show what lies a share of the axis before or after. */
  shift(share: number): void {
    const zoom = this.zoom.value;
    if (zoom === null) return;
    const by = (zoom.to - zoom.from) * share;
    this.zoom.value = clamped({ from: zoom.from + by, to: zoom.to + by }, this.wholeRange(this.busySpans()));
  }

  private makeAxis(): TimeAxis {
    this.store.structure.value;
    // Events come often, and an axis that moves with each of them is hard to read: twice a second is enough.
    if (this.store.isRunning && !this.store.source.isReadOnly) now.value;
    else this.store.tick.value;
    const spans = this.busySpans();
    return axisOf(this.zoom.value ?? this.wholeRange(spans), spans, this.foldsIdle.value);
  }

  private wholeRange(spans: readonly Span[]): Span {
    const start = this.choice.value === "all" ? this.runStart() : null;
    let from = start ?? Infinity;
    let to = start === null ? -Infinity : this.present.peek();
    for (const span of spans) {
      if (span.from < from) from = span.from;
      if (span.to > to) to = span.to;
    }
    if (from <= to) return { from, to };
    const created = this.store.root?.createdAt ?? this.present.peek();
    return { from: created, to: Math.max(created, this.present.peek()) };
  }

  private busySpans(): Span[] {
    const spans: Span[] = [];
    const choice = this.choice.value;
    const present = this.present.peek();
    for (const node of this.store.nodes.values()) {
      if (node.startedAt === null || this.store.index.children.has(node.id)) continue;
      const attempts = this.store.knownAttempts(node);
      if (WAITING_EXECUTORS.has(node.executor ?? "")) spans.push({ from: node.startedAt, to: node.startedAt });
      else if (attempts === undefined && choice === "all") spans.push({ from: node.startedAt, to: node.completedAt ?? present });
      else spans.push(...segmentsOf(node, attempts, null, present, choice).filter(isBusy));
    }
    return spans;
  }

  private lastEnd(): number {
    let last = this.store.root?.createdAt ?? 0;
    for (const node of this.store.nodes.values()) last = Math.max(last, node.completedAt ?? node.startedAt ?? 0);
    return last;
  }
}

function isBusy(part: Segment): boolean {
  return part.kind === "running" || part.kind === "failed_attempt";
}

function clamped(span: Span, whole: Span): Span {
  const length = span.to - span.from;
  const from = Math.min(Math.max(span.from, whole.from), Math.max(whole.from, whole.to - length));
  return { from, to: from + length };
}
