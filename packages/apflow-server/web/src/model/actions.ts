/** The actions of the page. Each is one operation, and one command. Pure. */
import type { Json, TaskStatus } from "../api/_generated_operations";
import type { Action } from "./action";
import { type RunFilter, optionsOf, parametersOf } from "./run_filter";

export function listRuns(filter: RunFilter): Action {
  return { title: "This list", method: "tasks.list", params: parametersOf(filter) as Record<string, Json>, cli: ["tasks", "list", ...optionsOf(filter)] };
}

export function watchRun(id: string): Action {
  return { title: "This run", method: "tasks.tree", params: { task_id: id }, cli: ["tasks", "tree", id] };
}

export function execute(id: string, status: TaskStatus): Action {
  const isRepeated = status === "completed";
  return {
    title: status === "pending" ? "Run" : isRepeated ? "Run again" : "Retry",
    method: "tasks.execute",
    params: { task_id: id, ...(isRepeated && { force: true }) },
    cli: ["tasks", "execute", id, ...(isRepeated ? ["--force"] : [])],
  };
}

export function cancel(id: string): Action {
  return { title: "Cancel", method: "tasks.cancel", params: { task_ids: [id] }, cli: ["tasks", "cancel", id] };
}

export function copy(id: string): Action {
  return { title: "Copy", method: "tasks.copy", params: { task_id: id }, cli: ["tasks", "copy", id] };
}

/** Run a copy of the tree from one task on, with changed inputs. */
export function fork(id: string, patch: { [name: string]: Json } | null): Action {
  const overrides = patch === null ? {} : { overrides: { [id]: { inputs: patch } } };
  const sets = Object.entries(patch ?? {}).flatMap(([name, value]) => ["--set", `inputs.${name}=${JSON.stringify(value)}`]);
  return {
    title: "Run again from here",
    method: "tasks.fork",
    params: { task_id: id, from_task_ids: [id], ...overrides },
    cli: ["tasks", "fork", id, "--from", id, ...sets],
  };
}

export function followLogs(id: string): Action {
  return { title: "Logs", method: "tasks.logs", params: { task_id: id }, cli: ["tasks", "logs", id, "--follow"] };
}

export function approve(id: string, answers: { [name: string]: Json }, reason: string): Action {
  const hasAnswers = Object.keys(answers).length > 0;
  return {
    title: "Approve",
    method: "approvals.approve",
    params: { task_id: id, ...(hasAnswers && { answers }), ...(reason && { reason }) },
    cli: ["approvals", "approve", id, ...(hasAnswers ? ["--answers", JSON.stringify(answers)] : []), ...(reason ? ["--reason", reason] : [])],
  };
}

export function reject(id: string, reason: string): Action {
  return {
    title: "Reject",
    method: "approvals.reject",
    params: { task_id: id, ...(reason && { reason }) },
    cli: ["approvals", "reject", id, ...(reason ? ["--reason", reason] : [])],
  };
}

export function ofSchedule(does: "pause" | "resume" | "trigger", id: string): Action {
  const titles = { pause: "Pause", resume: "Resume", trigger: "Start now" };
  return { title: titles[does], method: `schedules.${does}`, params: { schedule_id: id }, cli: ["schedules", does, id] };
}

export function submit(tasks: Json): Action {
  return { title: "Run", method: "tasks.submit", params: { tasks }, cli: ["run", "flow", "--background", "--tasks", JSON.stringify(tasks)] };
}

export function plan(tasks: Json): Action {
  return { title: "Check", method: "tasks.plan", params: { tasks }, cli: ["plan", "tasks.json"] };
}

export function raiseBudget(id: string, limits: { [name: string]: number }): Action {
  const options = Object.entries(limits).flatMap(([name, value]) => [`--${name}`, String(value)]);
  return { title: "Change the limits", method: "tasks.budget", params: { task_id: id, ...limits }, cli: ["tasks", "budget", id, ...options] };
}

export function vacuum(): Action {
  return { title: "Return free space", method: "system.vacuum", params: {}, cli: ["db", "vacuum"] };
}
