"""The entry points of installed distributions, read from the files in which installers write them.

`importlib.metadata` reads them, too, but takes longer to import than a command may take to show its help. It
is still used for distributions that are not in a directory of the import path.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import PathFinder
from typing import Any, NamedTuple

FILE = "entry_points.txt"
SUFFIXES = (".dist-info", ".egg-info")
# A directory or a file of one of these kinds is taken as absent.
ABSENT = (FileNotFoundError, NotADirectoryError, PermissionError, IsADirectoryError)


class FoundEntryPoint(NamedTuple):
    """An entry point, and the directory with the metadata of its distribution."""

    group: str
    name: str
    value: str  # "package.module:object"
    folder: str


def is_path_readable() -> bool:
    """Return whether every distribution is in a directory of the import path.

    Otherwise an archive or an egg is on the path, or a program has added a finder of distributions.
    """
    finders: list[object] = [each for each in sys.meta_path if hasattr(each, "find_distributions")]
    return finders == [PathFinder] and not any(
        str(each).lower().endswith(".egg") or os.path.isfile(each)  # noqa: PTH113 - pathlib takes ten times longer
        for each in sys.path
    )


def read_entry_points(prefix: str) -> Iterator[FoundEntryPoint]:
    """Yield the entry points whose group begins with `prefix`, in the order of the import path.

    Raises:
        OSError: a directory or file cannot be read, for example because no file descriptor is free.
    """
    for directory in sys.path:
        for folder in _metadata_folders(directory):
            text = _read(f"{folder}/{FILE}")
            if f"[{prefix}" in text:
                yield from (each for each in _parse(text, folder) if each.group.startswith(prefix))


def load_object(value: str) -> object:
    """Import the module of an object reference, "package.module:object", and return the object.

    Raises:
        Exception: whatever the import raises; `AttributeError` if the module does not have the object.
    """
    module, _, attributes = value.partition("[")[0].partition(":")
    loaded: Any = import_module(module.strip())
    for name in filter(None, attributes.strip().split(".")):
        loaded = getattr(loaded, name)
    return loaded


def _metadata_folders(directory: str) -> list[str]:
    try:
        names = os.listdir(directory or ".")  # noqa: PTH208
    except ABSENT:
        return []
    return [f"{directory or '.'}/{name}" for name in names if name.lower().endswith(SUFFIXES)]


def _read(path: str) -> str:
    """Return the content of a file; empty if there is no such file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            return file.read()
    except ABSENT:
        return ""


def _parse(text: str, folder: str) -> Iterator[FoundEntryPoint]:
    group = ""
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1]
            continue
        name, separator, value = line.partition("=")
        if separator:
            yield FoundEntryPoint(group, name.strip(), value.strip(), folder)
