/** The document of an exported run, as `apflow tasks export --html` writes it. Pure. */
import type { AttemptResult, TaskResult, WhyResult } from "../api/_generated_operations";

export interface DocumentLine {
  at: string;
  level: string;
  text: string;
  attempt: number;
}

export interface RunDocument {
  format: "apflow-run";
  version: number;
  exported_at: string;
  root_id: string;
  tasks: TaskResult[];
  attempts: Record<string, AttemptResult[]>;
  why: Record<string, WhyResult>;
  logs: Record<string, DocumentLine[]>;
  /** Names of fields that were shortened, by the ID of the task. */
  cut: Record<string, string[]>;
}

const VERSION = 1;

/** Return the document that a text in JSON contains, or why there is none. */
export function readDocument(text: string): RunDocument | string {
  let found: Partial<RunDocument> | null;
  try {
    found = JSON.parse(text) as Partial<RunDocument> | null;
  } catch {
    return "The run in this file is damaged.";
  }
  if (found === null) return "This file contains no run. apflow tasks export --html writes one.";
  if (found.format !== "apflow-run" || !found.root_id || !Array.isArray(found.tasks)) return "This file does not contain a run of apflow.";
  if (found.version !== VERSION) return `The run in this file has version ${String(found.version)} of the format, and this page reads version ${VERSION}.`;
  const { format, version, exported_at = "", root_id, tasks, attempts = {}, why = {}, logs = {}, cut = {} } = found;
  return { format, version, exported_at, root_id, tasks, attempts, why, logs, cut };
}
