"""Captures records of `logging` that the code of tasks makes, of any logger.

Two methods of `logging.Logger` are wrapped: a handler would miss loggers that do not propagate, would be
removed by `logging.config`, and would turn `logging.basicConfig` off. Outside of tasks, both do what they did
before. Within a task, a record reaches its handlers if it would without apflow. In addition, records from the
level of task logs on are captured, even if the level of the root logger is higher. A level that is set on
another logger is respected.
"""

from __future__ import annotations

import logging
from typing import Final

from apflow.core.capture.task_log import TaskLog, current_log

_FORMATTER: Final = logging.Formatter()
_is_enabled = logging.Logger.isEnabledFor
_call_handlers = logging.Logger.callHandlers


def install() -> None:
    """Wrap the methods, if they are not wrapped yet."""
    global _is_enabled, _call_handlers  # another library may have wrapped them before
    if logging.Logger.callHandlers is not _call_handlers_and_capture:
        _is_enabled, _call_handlers = logging.Logger.isEnabledFor, logging.Logger.callHandlers
        setattr(logging.Logger, "isEnabledFor", _is_enabled_or_captured)  # noqa: B010 - checkers refuse
        setattr(logging.Logger, "callHandlers", _call_handlers_and_capture)  # noqa: B010 - to assign methods


def _is_enabled_or_captured(self: logging.Logger, level: int) -> bool:
    if _is_enabled(self, level):
        return True
    log = current_log.get()
    return log is not None and _is_captured(log, self, level)


def _call_handlers_and_capture(self: logging.Logger, record: logging.LogRecord) -> None:
    log = current_log.get()
    if log is None:
        _call_handlers(self, record)
        return
    token = current_log.set(None)  # what handlers write is not captured again
    try:
        if record.levelno >= log.limits.level:
            log.add(_text(record), record.levelno, "logging", record.name)
        if _is_enabled(self, record.levelno):
            _call_handlers(self, record)
    finally:
        current_log.reset(token)


def _is_captured(log: TaskLog, logger: logging.Logger, level: int) -> bool:
    """Return whether a record that is not enabled is captured."""
    if log.is_closed or level < log.limits.level:
        return False
    if logger.disabled or level <= logger.manager.disable:
        return False
    while logger.parent is not None:
        if logger.level:
            return False
        logger = logger.parent
    return True


def _text(record: logging.LogRecord) -> str:
    """Return the message of a record with its traceback. The record stays as it is for its handlers."""
    try:
        text = record.getMessage()
    except Exception:  # noqa: BLE001 - the arguments do not fit; handlers report that
        text = str(record.msg)
    parts = [text]
    if record.exc_info:
        parts.append(_FORMATTER.formatException(record.exc_info))
    elif record.exc_text:
        parts.append(record.exc_text)
    if record.stack_info:
        parts.append(record.stack_info)
    return "\n".join(parts)
