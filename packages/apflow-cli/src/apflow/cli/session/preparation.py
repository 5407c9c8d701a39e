"""What comes before a command's work: logging, warnings for people, the modules that were named."""

from __future__ import annotations

import logging
import warnings

from apflow.cli.inputs.options import Session
from apflow.core.extensions.user_modules import import_modules
from apflow.core.process.printable import TextFormatter, printable
from apflow.core.settings import get_settings


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
    from apflow.core.engine.log_format import ServiceFormatter  # here: most commands run no trees

    return ServiceFormatter()


def _format_warning(message: Warning | str, *_: object, **__: object) -> str:
    return f"Warning: {printable(str(message), keeps_lines=True)}\n"
