/** Where the view of a run gets its data from: a server, or the document of an export. */
import type { AttemptResult, LogLineResult, TaskResult, WhyResult } from "../api/_generated_operations";
import type { StreamState } from "../api/follow";
import type { TaskNode } from "../model/task_node";
import type { TreeEvent } from "../model/tree_event";

export interface RunListener {
  nodes(nodes: TaskNode[], isFirst: boolean, isLast: boolean): void;
  events(events: TreeEvent[]): void;
  state(state: StreamState): void;
  failed(message: string): void;
}

export interface LogListener {
  lines(lines: LogLineResult[]): void;
  ended(): void;
}

export interface RunSource {
  readonly rootId: string;
  /** Whether nothing can be changed. */
  readonly isReadOnly: boolean;
  /** Deliver the tasks and what happens to them, until the returned function is called. */
  follow(listener: RunListener): () => void;
  task(id: string): Promise<TaskResult>;
  why(id: string): Promise<WhyResult | null>;
  attempts(ids: string[]): Promise<ReadonlyMap<string, AttemptResult[]>>;
  /** Deliver what a task has logged and logs, until the returned function is called. */
  logs(id: string, attempt: number | null, listener: LogListener): () => void;
  /** Fields of a task that the document has only in part. */
  cutFields(id: string): readonly string[];
}
