"""A run as one JSON document: what the page of a run shows, written piece by piece.

Tasks are written as they arrive; attempts wait in a temporary file. What is large is cut, and `cut` names
the fields of each task that were cut, so that the document opens in a browser whatever the run has done.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Final, Self

from apflow.core.model.task import Json

FORMAT: Final = "apflow-run"
VERSION: Final = 1
MAX_VALUE_CHARS: Final = 64 << 10  # of the JSON of a field
LARGE_FIELDS: Final = ("result", "inputs", "params", "schemas", "error")
MAX_LINES: Final = 500  # of the logs of one task: its last ones
MAX_LINE_CHARS: Final = 4 << 10
MAX_LOG_CHARS: Final = 16 << 20  # of the logs of all tasks
_SPOOL_BYTES: Final = 4 << 20  # in memory

JsonObject = Mapping[str, Json]
TextFile = SpooledTemporaryFile[str]


class RunDocument:
    """Collects the lines of an export of one tree, and yields the document in pieces.

    Attributes:
        why: what `tasks.why` says of a task, by ID; the caller adds to it.
    """

    def __init__(self, root_id: str, exported_at: str) -> None:
        self.root_id, self.exported_at = root_id, exported_at
        self.count = 0
        self.why: dict[str, Json] = {}
        self._failed: list[str] = []
        self._others: list[str] = []
        self._cut: dict[str, list[str]] = {}
        self._logs: dict[str, deque[dict[str, Json]]] = {}
        self._log_chars = 0
        self._attempts_of: tuple[str, list[Json]] | None = None  # of the last task, while they arrive
        self._files = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            self._tasks = opened.enter_context(_spool())
            self._attempts = opened.enter_context(_spool())
            self._files = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    @property
    def unfinished(self) -> list[str]:
        """IDs of the tasks that have not completed: those that failed first."""
        return [*self._failed, *self._others]

    def add(self, line: JsonObject) -> None:
        """Add a line of `tasks.export`. Events are left out: the tasks and their attempts say the same."""
        if task := line.get("task"):
            self._add_task(task)
        elif attempt := line.get("attempt"):
            self._add_attempt(attempt)
        elif log := line.get("log"):
            self._add_log(log)

    def _add_task(self, task: dict[str, Json]) -> None:
        self._write(self._tasks, "" if self.count == 0 else ",", self._shortened(task))
        self.count += 1
        if task["status"] == "failed":
            self._failed.append(task["id"])
        elif task["status"] != "completed":
            self._others.append(task["id"])

    def _shortened(self, task: dict[str, Json]) -> dict[str, Json]:
        """Return a task of which each large field is the beginning of its JSON, as a string."""
        large: dict[str, Json] = {}
        for name in LARGE_FIELDS:
            text = json.dumps(task.get(name), ensure_ascii=False)
            if len(text) > MAX_VALUE_CHARS:
                large[name] = text[:MAX_VALUE_CHARS]
                self._note_cut(task["id"], name)
        return task | large

    def _add_attempt(self, attempt: dict[str, Json]) -> None:
        task_id = attempt["task_id"]
        if self._attempts_of is None or self._attempts_of[0] != task_id:
            self._flush_attempts()
            self._attempts_of = (task_id, [])
        self._attempts_of[1].append(attempt)

    def _flush_attempts(self) -> None:
        """Write the attempts of one task as a member of an object."""
        if self._attempts_of is not None:
            task_id, attempts = self._attempts_of
            comma = "," if self._attempts.tell() else ""
            self._write(self._attempts, f"{comma}{text_of(task_id)}:", attempts)
            self._attempts_of = None

    def _add_log(self, line: dict[str, Json]) -> None:
        task_id, text = line["task_id"], str(line["message"])
        lines = self._logs.setdefault(task_id, deque())
        if len(text) > MAX_LINE_CHARS:
            text = text[:MAX_LINE_CHARS]
            self._note_cut(task_id, "logs")
        if len(lines) == MAX_LINES:
            self._log_chars -= len(lines.popleft()["text"])
            self._note_cut(task_id, "logs")
        if self._log_chars + len(text) > MAX_LOG_CHARS:
            self._note_cut(task_id, "logs")
            return
        self._log_chars += len(text)
        entry = {"at": line["timestamp"], "level": line["level"], "text": text, "attempt": line["attempt"]}
        lines.append(entry)

    def _note_cut(self, task_id: str, field: str) -> None:
        cut = self._cut.setdefault(task_id, [])
        if field not in cut:
            cut.append(field)

    def pieces(self) -> Iterator[str]:
        """Yield the document in pieces that are safe within an element of HTML."""
        self._flush_attempts()
        head = {
            "format": FORMAT,
            "version": VERSION,
            "exported_at": self.exported_at,
            "root_id": self.root_id,
        }
        yield text_of(head)[:-1] + ',"tasks":['
        yield from _content(self._tasks)
        yield '],"attempts":{'
        yield from _content(self._attempts)
        yield f'}},"why":{text_of(self.why)},"logs":{{'
        for number, (task_id, lines) in enumerate(self._logs.items()):
            yield f"{',' if number else ''}{text_of(task_id)}:{text_of(list(lines))}"
        yield f'}},"cut":{text_of(self._cut)}}}'

    @staticmethod
    def _write(file: TextFile, before: str, value: Json) -> None:
        file.write(before + text_of(value))


def _spool() -> TextFile:
    """Return a temporary file, in memory while it is small."""
    return SpooledTemporaryFile(max_size=_SPOOL_BYTES, mode="w+", encoding="utf-8", newline="")


def text_of(value: object) -> str:
    """Return JSON without characters that could end an element of HTML, or begin one."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _content(file: TextFile) -> Iterator[str]:
    file.seek(0)
    while piece := file.read(1 << 20):
        yield piece
