/** Follows the events of a run apart from the page, so that no amount of them makes the page wait. */
import { nodesOf } from "../model/nested";
import { treeEventOf, type RawEvent, type TreeEvent } from "../model/tree_event";
import type { TaskResult } from "./_generated_operations";
import { follow, type Listener } from "./follow";
import type { StreamMessage, StreamRequest } from "./run_stream";
import type { Frame } from "./sse";

const PART = 2_000;

const scope = globalThis as unknown as {
  postMessage(message: StreamMessage): void;
  onmessage: ((message: MessageEvent<StreamRequest>) => void) | null;
};

let current = new AbortController();

scope.onmessage = ({ data }) => {
  current.abort();
  current = new AbortController();
  void follow({ ...data, after: null }, listener, current.signal);
};

const listener: Listener = {
  frames: (frames) => {
    let events: TreeEvent[] = [];
    for (const frame of frames) {
      const raw = JSON.parse(frame.data) as RawEvent;
      if (raw.type === "snapshot") {
        postNodes(raw);
        events = [];
      } else events.push(treeEventOf(raw));
    }
    if (events.length > 0) scope.postMessage({ kind: "events", events });
  },
  state: (state) => scope.postMessage({ kind: "state", state }),
  isLast: (frame: Frame) => frame.event.startsWith("tree_") && frame.event !== "tree_started",
};

function postNodes(snapshot: RawEvent): void {
  const nodes = nodesOf(snapshot.data as unknown as TaskResult);
  for (let from = 0; from < nodes.length; from += PART) {
    const isLast = from + PART >= nodes.length;
    scope.postMessage({ kind: "nodes", nodes: nodes.slice(from, from + PART), isFirst: from === 0, isLast });
  }
}
