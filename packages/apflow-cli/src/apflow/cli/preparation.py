"""What comes before a command's work: logging, warnings for people, the modules that were named."""

from __future__ import annotations

import importlib
import logging
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path

from apflow.cli.options import Session
from apflow.core.errors import InvalidInputError
from apflow.core.settings import get_settings


def prepare(session: Session) -> None:
    """Set up logging and warnings for people, and import the modules that were named."""
    logging.basicConfig(level=get_settings().log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    warnings.formatwarning = _format_warning
    import_modules([*get_settings().import_modules, *session.modules])


def _format_warning(message: Warning | str, *_: object, **__: object) -> str:
    return f"Warning: {message}\n"


def import_modules(names: Iterable[str]) -> None:
    """Import modules, also from the working folder, for what they register.

    Raises:
        InvalidInputError: a module is not there or does not import.
    """
    here = str(Path.cwd())
    for name in names:
        if here not in sys.path:
            sys.path.insert(0, here)
        try:
            importlib.import_module(name)
        except Exception as error:
            raise InvalidInputError(_why_not(name, here, error)) from error


def _why_not(name: str, here: str, error: Exception) -> str:
    is_missing = isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}.")
    if is_missing:
        return (
            f"There is no module {name!r} to import (--import, APFLOW_IMPORT). Looked in {here} "
            "and on Python's path; give the name as in an import statement, without .py."
        )
    return f"Importing {name!r} failed with {type(error).__name__}: {error}. --debug shows where."
