/** A run of the server: its tasks, its stream of events, and what the drawer reads. */
import type { AttemptResult, LogLineResult, TaskResult } from "../api/_generated_operations";
import { noteState } from "../api/connection";
import { follow } from "../api/follow";
import { addressOf } from "../api/root";
import { AwayError, call, callEach } from "../api/rpc";
import type { StreamMessage, StreamRequest } from "../api/run_stream";
import StreamWorker from "../api/run_stream.worker?worker";
import { authHeaders } from "../api/session";
import type { TreeEvent } from "../model/tree_event";
import { nodeOf } from "../model/task_node";
import type { RunListener, RunSource } from "./run_source";

/** Tasks that are shown before the whole tree has come. */
const FIRST_TASKS = 300;
const BATCH = 50;

export function serverSource(rootId: string): RunSource {
  return {
    rootId,
    isReadOnly: false,
    follow: (listener) => followRun(rootId, listener),
    task: (id) => call("tasks.get", { task_id: id }),
    why: (id) => call("tasks.why", { task_id: id }),
    attempts: attemptsOf,
    logs: (id, attempt, listener) => {
      const stop = new AbortController();
      const address = addressOf(`tasks/${encodeURIComponent(id)}/logs${attempt === null ? "" : `?attempt=${attempt}`}`);
      void follow({ address, headers: authHeaders("GET"), after: "0" }, {
        frames: (frames) => {
          const lines = frames.filter((frame) => frame.event === "line").map((frame) => JSON.parse(frame.data) as LogLineResult);
          if (lines.length > 0) listener.lines(lines);
        },
        state: (state) => state.state === "ended" && listener.ended(),
        isLast: (frame) => frame.event === "end",
      }, stop.signal);
      return () => stop.abort();
    },
    cutFields: () => [],
  };
}

function followRun(rootId: string, listener: RunListener): () => void {
  const worker = new StreamWorker();
  let hasTree = false;
  worker.onmessage = ({ data }: MessageEvent<StreamMessage>) => {
    if (data.kind === "nodes") {
      hasTree = true;
      listener.nodes(data.nodes, data.isFirst, data.isLast);
      if (data.isLast) void openApprovals(rootId).then((events) => events.length > 0 && listener.events(events));
    } else if (data.kind === "events") listener.events(data.events);
    else {
      noteState(data.state);
      listener.state(data.state);
    }
  };
  const request: StreamRequest = { address: addressOf(`tasks/${encodeURIComponent(rootId)}/events`), headers: authHeaders("GET") };
  worker.postMessage(request);
  firstTasks(rootId).then(
    (tasks) => hasTree || listener.nodes(tasks.map(nodeOf), true, tasks.length < FIRST_TASKS),
    (error: Error) => error instanceof AwayError || listener.failed(error.message),
  );
  return () => worker.terminate();
}

/** Return the approvals that tasks of a run wait for, as the events that asked for them. */
async function openApprovals(rootId: string): Promise<TreeEvent[]> {
  const approvals = await call("approvals.list", {}).catch(() => []);
  const ofRun = approvals.filter((approval) => approval.root_task_id === rootId);
  return ofRun.map((approval) => ({ type: "approval_requested", taskId: approval.task_id, sequence: 0, at: 0, status: null, progress: null, message: null, data: {}, error: null, isFinal: false }));
}

/** Return the first tasks of a tree: a page of an export, which takes the same time whatever the size of the tree. */
async function firstTasks(rootId: string): Promise<TaskResult[]> {
  const { lines } = await call("tasks.export", { root_ids: [rootId], limit: FIRST_TASKS });
  if (lines.length === 0) throw new Error(`There is no run ${rootId}.`);
  return lines.flatMap((line) => (line.task ? [line.task as unknown as TaskResult] : []));
}

async function attemptsOf(ids: string[]): Promise<ReadonlyMap<string, AttemptResult[]>> {
  const found = new Map<string, AttemptResult[]>();
  for (let from = 0; from < ids.length; from += BATCH) {
    const part = ids.slice(from, from + BATCH);
    const answers = await callEach("tasks.attempts", part.map((id) => ({ task_id: id })));
    answers.forEach((answer, at) => answer && found.set(part[at] as string, answer));
  }
  return found;
}
