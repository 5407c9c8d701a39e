/** One run: its tasks, kept up to date by its stream. Views read it by two signals. */
import { batch, signal } from "@preact/signals";
import type { AttemptResult, TaskStatus } from "../api/_generated_operations";
import type { StreamState } from "../api/follow";
import { indexOf, type TreeIndex } from "../model/rows";
import { isEnd } from "../model/status";
import type { TaskNode } from "../model/task_node";
import { applyEvent, createdNode, type TreeEvent } from "../model/tree_event";
import { frameSoon } from "./frame";
import type { RunSource } from "./run_source";

export type Counts = Record<TaskStatus, number>;

export class RunStore {
  /** Changes when any task has changed; at most once for each frame that is painted. */
  readonly tick = signal(0);
  /** Changes when tasks are added or replaced. */
  readonly structure = signal(0);
  readonly stream = signal<StreamState | null>(null);
  readonly failure = signal<string | null>(null);
  /** Whether all tasks have come. */
  readonly isWhole = signal(false);

  nodes = new Map<string, TaskNode>();
  /** The highest number of an attempt that any task has. */
  mostAttempts = 1;
  index: TreeIndex;
  private coming = new Map<string, TaskNode>();
  private readonly loadedAttempts = new Map<string, { of: string; attempts: AttemptResult[] }>();
  private readonly wantedAttempts = new Set<string>();
  private stopFollowing: (() => void) | null = null;
  private readonly paint = frameSoon(() => (this.tick.value += 1));

  constructor(readonly source: RunSource) {
    this.index = { rootId: source.rootId, children: new Map() };
  }

  start(): void {
    this.stopFollowing ??= this.source.follow({
      nodes: (nodes, isFirst, isLast) => this.takeNodes(nodes, isFirst, isLast),
      events: (events) => this.takeEvents(events),
      state: (state) => this.takeState(state),
      failed: (message) => (this.failure.value = message),
    });
  }

  stop(): void {
    this.stopFollowing?.();
    this.stopFollowing = null;
    this.paint.cancel();
  }

  get root(): TaskNode | undefined {
    return this.nodes.get(this.source.rootId);
  }

  counts(): Counts {
    const counts: Counts = { pending: 0, in_progress: 0, completed: 0, failed: 0, cancelled: 0, skipped: 0 };
    for (const node of this.nodes.values()) counts[node.status] += 1;
    return counts;
  }

  get isRunning(): boolean {
    const root = this.root;
    return root !== undefined && !isEnd(root.status) && root.startedAt !== null;
  }

  /** Return the attempts of a task, and load them if they are not known. */
  attemptsOf(node: TaskNode): AttemptResult[] | undefined {
    if (node.attempts < 2) return undefined;
    const known = this.loadedAttempts.get(node.id);
    const state = stateOf(node);
    if (known?.of !== state) {
      this.loadedAttempts.set(node.id, { of: state, attempts: known?.attempts ?? [] });
      this.wantAttempts(node.id);
    }
    return known?.attempts;
  }

  /** Return the attempts of a task as far as they are loaded. */
  knownAttempts(node: TaskNode): AttemptResult[] | undefined {
    return this.loadedAttempts.get(node.id)?.attempts;
  }

  /** Load the attempts of all tasks that have several, so that one number can be chosen. */
  loadAllAttempts(): void {
    for (const node of this.nodes.values()) this.attemptsOf(node);
  }

  private noteAttempts(number: number): void {
    if (number > this.mostAttempts) this.mostAttempts = number;
  }

  private wantAttempts(id: string): void {
    if (this.wantedAttempts.size === 0) setTimeout(() => void this.loadAttempts(), 50);
    this.wantedAttempts.add(id);
  }

  private async loadAttempts(): Promise<void> {
    const wanted = [...this.wantedAttempts];
    this.wantedAttempts.clear();
    const found = await this.source.attempts(wanted).catch(() => new Map<string, AttemptResult[]>());
    for (const [id, attempts] of found) {
      const known = this.loadedAttempts.get(id);
      if (known) known.attempts = attempts;
      this.noteAttempts(attempts.at(-1)?.number ?? 0);
    }
    this.paint.request();
  }

  private takeNodes(nodes: TaskNode[], isFirst: boolean, isLast: boolean): void {
    if (isFirst) this.coming = new Map();
    for (const node of nodes) this.coming.set(node.id, node);
    if (!isLast && this.nodes.size > 0) return;
    this.nodes = this.coming;
    for (const node of this.nodes.values()) this.noteAttempts(node.attempts);
    this.index = indexOf(this.nodes.values(), this.source.rootId);
    batch(() => {
      this.isWhole.value = isLast;
      this.structure.value += 1;
      this.tick.value += 1;
    });
  }

  private takeEvents(events: TreeEvent[]): void {
    let hasNew = false;
    for (const event of events) {
      const node = this.nodes.get(event.taskId);
      if (node !== undefined) {
        applyEvent(node, event);
        this.noteAttempts(node.attempts);
      }
      else if (event.type === "task_created") {
        this.nodes.set(event.taskId, createdNode(event));
        hasNew = true;
      }
    }
    if (hasNew) {
      this.index = indexOf(this.nodes.values(), this.source.rootId);
      this.structure.value += 1;
    }
    this.paint.request();
  }

  private takeState(state: StreamState): void {
    this.stream.value = state;
    if (state.state === "refused") {
      this.failure.value = state.status === 404 ? `There is no run ${this.source.rootId}.` : `The server refused the stream of events (status ${state.status}).`;
    }
  }
}

/** What the attempts of a task depend on: if it changes, they are loaded again. */
function stateOf(node: TaskNode | undefined): string {
  return node === undefined ? "" : `${node.attempts}/${node.status}/${node.waitsFor ?? ""}`;
}
