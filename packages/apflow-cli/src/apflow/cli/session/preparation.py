"""What comes before a command's work: logging, warnings for people, the modules that were named."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Final, cast

from apflow.cli.inputs.options import Session
from apflow.core import plugins
from apflow.core.errors import SettingsError
from apflow.core.extensions.user_modules import import_modules
from apflow.core.process.printable import TextFormatter, printable
from apflow.core.settings import get_settings

LOG_FORMATS: Final = "apflow.log_formats"  # entry points: functions that return a formatter


def prepare(session: Session, *, is_service: bool = False) -> None:
    """Set up logging and warnings for people, and import the modules that were named.

    Args:
        is_service: the process runs trees for others; its log has the time, the tree and the task of records.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_service_formatter() if is_service else TextFormatter())
    logging.basicConfig(level=get_settings().log_level.upper(), handlers=[handler])
    warnings.formatwarning = _format_warning
    import_modules([*get_settings().import_modules, *session.modules])


def _service_formatter() -> logging.Formatter:
    """Return the formatter that APFLOW_LOG_FORMAT names.

    Raises:
        SettingsError: no installed distribution has the format.
    """
    log_format = get_settings().log_format
    if log_format == "text":
        from apflow.core.engine.log_format import ServiceFormatter  # here: most commands run no trees

        return ServiceFormatter()
    if not plugins.is_offered(LOG_FORMATS, log_format):
        raise SettingsError(
            f"APFLOW_LOG_FORMAT is {log_format!r}, which no installed package offers. Use text, or json with "
            "the package apflow-server."
        )
    make = cast("Callable[[], logging.Formatter]", plugins.load(LOG_FORMATS, log_format))
    return make()


def _format_warning(message: Warning | str, *_: object, **__: object) -> str:
    return f"Warning: {printable(str(message), keeps_lines=True)}\n"
