"""Modules that register executors or hooks, imported by their names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path

from apflow.core.errors import InvalidInputError
from apflow.core.process.error_text import describe_error


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
        except BaseException as error:  # whatever the module raises, SystemExit included
            raise InvalidInputError(_why_not(name, here, error)) from error


def _why_not(name: str, here: str, error: BaseException) -> str:
    is_missing = isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}.")
    if is_missing:
        return (
            f"There is no module {name!r} to import (--import, APFLOW_IMPORT). Looked in {here} "
            "and on Python's path; give the name as in an import statement, without .py."
        )
    return f"Importing {name!r} failed with {describe_error(error)}. --debug shows where."
