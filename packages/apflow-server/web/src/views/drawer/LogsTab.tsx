/** What a task and its descendants log, followed while they run. */
import { useEffect, useRef, useState } from "preact/hooks";
import type { LogLineResult } from "../../api/_generated_operations";
import { Button } from "../../components/Button";
import { download } from "../../components/JsonView";
import { EmptyNote } from "../../components/Notes";
import { clockText, countText } from "../../model/format";
import { timeOf } from "../../model/task_node";
import type { RunView } from "../../stores/run_view";

const MAX_LINES = 5_000;
const LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] as const;

export function LogsTab({ view, taskId, state }: { view: RunView; taskId: string; state: string }) {
  const lines = useRef<LogLineResult[]>([]);
  const [count, setCount] = useState(0);
  const [isOver, setOver] = useState(false);
  const [level, setLevel] = useState(0);
  const [text, setText] = useState("");
  const list = useRef<HTMLDivElement>(null);
  const isAtEnd = useRef(true);
  const status = state.split("/")[0];
  const isRunning = status === "in_progress" || status === "pending";
  useEffect(() => {
    lines.current = [];
    setCount(0);
    setOver(false);
    return view.store.source.logs(taskId, null, {
      lines: (more) => {
        const known = lines.current.at(-1)?.number ?? -1;
        lines.current = [...lines.current, ...more.filter((line) => line.number > known)].slice(-MAX_LINES);
        setCount((old) => old + more.length);
      },
      ended: () => setOver(true),
    });
  }, [taskId, isRunning]);
  useEffect(() => {
    if (list.current && isAtEnd.current) list.current.scrollTop = list.current.scrollHeight;
  }, [count, level]);
  const shown = lines.current.filter((line) => LEVELS.indexOf(line.level) >= level && line.message.toLowerCase().includes(text.toLowerCase()));
  return (
    <div class="logs">
      <div class="toolbar">
        <label class="select">Level
          <select value={level} onChange={(event) => setLevel(Number(event.currentTarget.value))}>
            {LEVELS.map((name, at) => <option key={name} value={at}>{name.toLowerCase()}</option>)}
          </select>
        </label>
        <input type="search" placeholder="Find in the log" aria-label="Find in the log" value={text} onInput={(event) => setText(event.currentTarget.value)} />
        <span class="faint">{countText(shown.length)} lines{!isOver && isRunning ? ", live" : ""}</span>
        <Button icon="download" kind="quiet" label="Download the log" onClick={() => download(lines.current.map(textOf).join("\n"), "log.txt")} />
      </div>
      {shown.length === 0 && <EmptyNote>{isOver || !isRunning ? "Nothing was logged." : "Nothing has been logged yet."}</EmptyNote>}
      <div ref={list} class="log-lines" role="log" tabIndex={0} aria-label="Log" onScroll={(event) => {
        const { scrollTop, scrollHeight, clientHeight } = event.currentTarget;
        isAtEnd.current = scrollTop + clientHeight >= scrollHeight - 8;
      }}>
        {shown.map((line) => <LogLine key={line.number} line={line} hasName={line.task_id !== taskId} />)}
      </div>
    </div>
  );
}

function LogLine({ line, hasName }: { line: LogLineResult; hasName: boolean }) {
  const at = timeOf(line.timestamp);
  return (
    <div class={`log-line is-${line.level.toLowerCase()}`}>
      <span class="log-time" title={line.timestamp}>{at === null ? "" : clockText(at)}</span>
      <span class="log-level">{line.level}</span>
      {hasName && <span class="log-name">{line.name ?? line.key}</span>}
      <span class="log-text">{line.message}</span>
    </div>
  );
}

function textOf(line: LogLineResult): string {
  return `${line.timestamp} ${line.level} [${line.key ?? line.task_id}] ${line.message}`;
}
