"""Logs of a process: lines for people, or JSON with the ids of the request, the task and the tree."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Final, TextIO, cast

from apflow.core.engine import active_runs
from apflow.core.engine.log_format import ServiceFormatter
from apflow.core.errors import SettingsError
from apflow.core.settings import Settings
from apflow.server.http.request_log import request_id

if TYPE_CHECKING:
    from structlog.types import EventDict, Processor, WrappedLogger

FORMATS: Final = ("text", "json")
# What every record of `logging` has: the rest was given as `extra`.
_OWN = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"message", "asctime"}


def set_up(settings: Settings, stream: TextIO | None = None) -> None:
    """Configure the logging of this process by the settings.

    Raises:
        SettingsError: the format or the level is unknown.
    """
    level = logging.getLevelNamesMapping().get(settings.log_level.upper())
    if level is None:
        raise SettingsError(f"APFLOW_LOG_LEVEL is DEBUG, INFO, WARNING or ERROR, not {settings.log_level!r}.")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter_of(settings.log_format))
    root = logging.getLogger()
    for each in list(root.handlers):
        root.removeHandler(each)
    root.addHandler(handler)
    root.setLevel(level)
    # It logs each WebSocket with its query, which may contain a token.
    logging.getLogger("uvicorn.error").setLevel(max(level, logging.WARNING))


def formatter_of(kind: str) -> logging.Formatter:
    """Return the formatter of a kind.

    Raises:
        SettingsError: there is none.
    """
    if kind == "text":
        return ServiceFormatter()
    if kind != "json":
        raise SettingsError(f'APFLOW_LOG_FORMAT is "text" or "json", not {kind!r}.')
    return json_formatter()


def json_formatter() -> logging.Formatter:
    """Return the formatter of JSON logs, which `apflow worker` finds by its entry point."""
    import structlog  # here: logs for people do without

    before: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _add_extra,
        add_ids,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=before,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(default=str, ensure_ascii=False),
        ],
    )


def add_ids(_: WrappedLogger, __: str, record_fields: EventDict) -> EventDict:
    """Add what is being worked on: the request, the task and its tree, where there are such."""
    current = request_id.get()
    if current:
        record_fields.setdefault("request_id", current)
    task = active_runs.current_task()
    if task is not None:
        record_fields.setdefault("task_id", task.id)
        record_fields.setdefault("root_task_id", task.root_id)
    return record_fields


def _add_extra(_: WrappedLogger, __: str, record_fields: EventDict) -> EventDict:
    record = cast("logging.LogRecord | None", record_fields.get("_record"))
    for name, value in vars(record).items() if record is not None else ():
        if name not in _OWN:
            record_fields.setdefault(name, value)
    return record_fields
