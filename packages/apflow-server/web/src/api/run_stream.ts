/** What the worker sends to the page about a run. */
import type { TaskNode } from "../model/task_node";
import type { TreeEvent } from "../model/tree_event";
import type { StreamState } from "./follow";

export interface StreamRequest {
  address: string;
  headers: Record<string, string>;
}

export type StreamMessage =
  /** A part of a snapshot, which replaces all earlier tasks. Parts keep the page responsive. */
  | { kind: "nodes"; nodes: TaskNode[]; isFirst: boolean; isLast: boolean }
  | { kind: "events"; events: TreeEvent[] }
  | { kind: "state"; state: StreamState };
