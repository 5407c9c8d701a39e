"""Exports of a database: JSON lines in one versioned format, written and read with bounded memory.

The first line is a header, the last line has the number of rows of each type, and every other line is one
row. A file without its last line is incomplete and is refused. `docs/reference/export-format.md` describes
the format. A store reads and writes rows; this module knows nothing of their content.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import BinaryIO, Final, NamedTuple, NoReturn, cast

from apflow.core.errors import InvalidInputError
from apflow.core.model.task import Json
from apflow.core.payload.json_value import dumps, loads

FORMAT: Final = 1
HEADER: Final = "apflow-export"
END: Final = "end"
MAX_BATCH_ROWS: Final = 1000
MAX_BATCH_BYTES: Final = 8 << 20
MAX_LINE_BYTES: Final = 1 << 30

Row = dict[str, Json]


class RowType(StrEnum):
    """The type of a row, which each line names."""

    TASK = "task"
    EVENTS = "events"  # consecutive events of one tree
    ATTEMPT = "attempt"
    LOG = "log"  # consecutive log entries of one attempt
    RECORD = "record"
    USAGE = "usage"  # of one model by one task


class CustomColumn(NamedTuple):
    """A column that a project has added to tasks."""

    name: str
    sql_type: str


class Batch(NamedTuple):
    """Consecutive rows of one type, with the number of the line of the first one."""

    type: RowType
    rows: list[Row]
    first_line: int


@dataclass
class ExportWriter:
    """Writes an export: `begin` once, `write` for each set of rows, then `end`.

    Raises:
        OSError: the file cannot be written.
    """

    file: BinaryIO
    version: str = ""  # of apflow
    counts: dict[RowType, int] = field(default_factory=lambda: dict.fromkeys(RowType, 0))
    is_cancelled: bool = False  # set in any thread: the next row is refused

    def begin(self, columns: Sequence[CustomColumn], at: datetime) -> None:
        """Write the header.

        Args:
            columns: the custom columns of the tasks that follow.
            at: the time of the export, which the header records.
        """
        self._write({
            "type": HEADER,
            "format": FORMAT,
            "apflow": self.version,
            "exported_at": at.isoformat(),
            "custom_columns": [{"name": each.name, "type": each.sql_type} for each in columns],
        })  # fmt: skip

    def write(self, kind: RowType, rows: Iterable[Row]) -> None:
        """Write rows of one type. They are taken one by one."""
        count = 0
        for row in rows:
            if self.is_cancelled:
                raise InterruptedError("The export was cancelled.")
            self._write({"type": kind} | row)
            count += 1
        self.counts[kind] += count

    def end(self) -> dict[str, int]:
        """Write the last line, and return the number of rows of each type."""
        counts = {str(kind): count for kind, count in self.counts.items()}
        self._write({"type": END, "counts": counts})
        return counts

    def _write(self, line: Row) -> None:
        self.file.write(dumps(line) + b"\n")


class ExportReader:
    """Reads an export.

    Args:
        file: the file, at its beginning.
        name: the name of the file in messages.

    Raises:
        InvalidInputError: the file does not begin with the header of a supported export.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name
        self._line = 0
        self._row: Row = {}
        self.is_cancelled = False  # set in any thread: the next row is refused
        self.counts = dict.fromkeys(RowType, 0)
        self.columns = _columns_of(self._read_header(), self.refuse)

    def batches(self) -> Iterator[Batch]:
        """Yield the rows of the file, in order, in batches of limited size.

        Raises:
            InvalidInputError: a line is invalid, or the file is incomplete. The message names the line.
        """
        rows: list[Row] = []
        kind, size, first = RowType.TASK, 0, 0
        while (row := self._next()) is not None:
            found, length = row
            if rows and (found is not kind or len(rows) >= MAX_BATCH_ROWS or size >= MAX_BATCH_BYTES):
                yield Batch(kind, rows, first)
                rows, size = [], 0
            if not rows:
                kind, first = found, self._line
            rows.append(self._row)
            size += length
        if rows:
            yield Batch(kind, rows, first)

    def refuse(self, why: str, line: int | None = None) -> NoReturn:
        """Raise the error for a line of the file; the one that was read last, unless another is given."""
        raise InvalidInputError(
            f"{self._name}, line {line or self._line}: {why} Nothing was imported. "
            "Import a file that `apflow db export` has written, unchanged."
        )

    def _next(self) -> tuple[RowType, int] | None:
        """Read the next row into `_row`, and return its type and length; None after the last line."""
        if self.is_cancelled:
            raise InvalidInputError("The import was cancelled. Nothing was imported.")
        text = self._read_line()
        row = self._object(text)
        kind = row.pop("type", None)
        if kind == END:
            self._check_end(row)
            return None
        found = _TYPES.get(kind) if isinstance(kind, str) else None
        if found is None:
            self.refuse(f"{_shown(kind)} is not a type of row that this version of apflow knows.")
        self._row = row
        self.counts[found] += 1
        return found, len(text)

    def _read_line(self) -> bytes:
        self._line += 1
        try:
            return self._file.readline(MAX_LINE_BYTES)
        except (OSError, EOFError, zlib.error) as error:  # also of a compressed file
            self.refuse(f"the file cannot be read: {error}.")

    def _read_header(self) -> Row:
        header = self._object(self._read_line())
        if header.get("type") != HEADER:
            self.refuse(f'the file is not an export of apflow: "type" is not {HEADER!r}.')
        if header.get("format") != FORMAT:
            self.refuse(
                f"the format {_shown(header.get('format'))} is not supported: this version of apflow reads "
                f"format {FORMAT}. Upgrade apflow to the version that wrote the file, or a later one."
            )
        return header

    def _check_end(self, row: Row) -> None:
        expected = {str(kind): count for kind, count in self.counts.items() if count}
        given: Json = row.get("counts")
        counts = cast("dict[str, Json]", given) if isinstance(given, dict) else {}
        if {kind: count for kind, count in counts.items() if count} != expected:
            self.refuse("the numbers of rows differ from those that the file states: lines are missing.")
        if self._file.read(1):
            self.refuse("the file continues after its last line.", self._line + 1)

    def _object(self, text: bytes) -> Row:
        if not text.endswith(b"\n"):
            self.refuse("the file ends here: it is incomplete. Export again.")
        try:
            row: Json = loads(text)
        except InvalidInputError as error:
            self.refuse(f"this is not JSON: {error}.")
        if not isinstance(row, dict):
            self.refuse("this is not a JSON object.")
        return cast("Row", row)


_TYPES: Final[Mapping[str, RowType]] = {str(kind): kind for kind in RowType}


def _columns_of(header: Row, refuse: Callable[[str], NoReturn]) -> list[CustomColumn]:
    columns: list[CustomColumn] = []
    given: Json = header.get("custom_columns", [])
    for each in cast("list[Json]", given) if isinstance(given, list) else [given]:
        column = cast("Row", each) if isinstance(each, dict) else {}
        name, sql_type = column.get("name"), column.get("type")
        if not isinstance(name, str) or not isinstance(sql_type, str):
            refuse('"custom_columns" must be a list of objects with "name" and "type".')
        columns.append(CustomColumn(name, sql_type))
    return columns


def _shown(value: Json) -> str:
    return repr(value)[:80]
