"""What comes before a command's work: logging, warnings for people, the modules that were named."""

from __future__ import annotations

import logging
import warnings

from apflow.cli.inputs.options import Session
from apflow.core.extensions.user_modules import import_modules
from apflow.core.process.printable import TextFormatter, printable
from apflow.core.settings import get_settings


def prepare(session: Session) -> None:
    """Set up logging and warnings for people, and import the modules that were named."""
    handler = logging.StreamHandler()
    handler.setFormatter(TextFormatter())
    logging.basicConfig(level=get_settings().log_level.upper(), handlers=[handler])
    warnings.formatwarning = _format_warning
    import_modules([*get_settings().import_modules, *session.modules])


def _format_warning(message: Warning | str, *_: object, **__: object) -> str:
    return f"Warning: {printable(str(message), keeps_lines=True)}\n"
