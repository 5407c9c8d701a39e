"""What `apflow doctor` finds in the installed files: other products in the package `apflow`, damaged files.

The public index has another product of the name apflow, whose files have the same paths as files of these
distributions: whichever is installed last replaces the files of the other one.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from apflow.cli.display.names import counted
from apflow.core import plugins

NAMESPACE: Final = "apflow"
SHOWN: Final = 3  # files in a message


@dataclass(frozen=True)
class InstalledFiles:
    """The files of one distribution, from its RECORD."""

    name: str
    version: str
    files: Mapping[Path, str]  # the package and the program `apflow`: absolute paths and their digests
    package: frozenset[Path]  # those of them that are in the package

    @property
    def is_own(self) -> bool:
        """Whether it is a distribution of apflow, or a plugin that has its name from it."""
        return self.name.startswith("apflow-")


def find_problems(installed: Iterable[InstalledFiles], namespace: Iterable[Path]) -> list[str]:
    """Return what is wrong with the files of apflow, one sentence for each distribution.

    Args:
        installed: every distribution.
        namespace: the directories of the package `apflow`.
    """
    known = list(installed)
    own = {path: each.name for each in known if each.is_own for path in each.files}
    problems = [_foreign(each, own) for each in known if not each.is_own]
    problems += [_initialized(directory) for directory in namespace]
    problems += [_damaged(each) for each in known if each.is_own]
    return [each for each in problems if each]


def installed_files() -> Iterator[InstalledFiles]:
    """Yield the distributions that have files in the package `apflow`, or a program of this name."""
    for name, version, recorded in plugins.recorded_files():
        inside = [each for each in recorded if each.name.startswith(f"{NAMESPACE}/")]
        programs = [each for each in recorded if PurePosixPath(each.name).stem == NAMESPACE]
        if inside or programs:
            files = {_path(each): each.digest for each in (*inside, *programs)}
            package = frozenset(_path(each) for each in inside)
            yield InstalledFiles(name.lower().replace("_", "-"), version, files, package)


def _path(file: plugins.RecordedFile) -> Path:
    return Path(os.path.normpath(file.path))  # RECORD has `../../../bin/apflow`


def namespace_directories() -> list[Path]:
    """Return the directories of the package `apflow`."""
    import apflow

    return [Path(each) for each in apflow.__path__]


def _foreign(installed: InstalledFiles, own: Mapping[Path, str]) -> str:
    """Return what is wrong with a distribution of another product."""
    inside = sorted(installed.package)
    if not inside:
        return ""
    replaced = sorted({own[path] for path in installed.files if path in own})
    command = f"pip install --force-reinstall --no-deps {' '.join(replaced)}"
    reinstall = f" Then reinstall what it replaced: {command}"
    return (
        f"{installed.name} {installed.version} is another product, and has {counted(len(inside), 'file')} in "
        f"the package {NAMESPACE} ({_names(inside)}). Remove it: pip uninstall {installed.name}."
        + (reinstall if replaced else "")
    )


def _initialized(directory: Path) -> str:
    """Return what is wrong with a directory of the namespace package, which must have no `__init__.py`."""
    file = directory / "__init__.py"
    if not file.is_file():
        return ""
    return f"{file} belongs to another product, and hides parts of apflow. Remove that product, or the file."


def _damaged(installed: InstalledFiles) -> str:
    """Return what is wrong with a distribution whose files are missing or were changed."""
    damaged = sorted(
        path for path, digest in installed.files.items() if digest and not _is_intact(path, digest)
    )
    if not damaged:
        return ""
    verbs = ("is", "was") if len(damaged) == 1 else ("are", "were")
    return (
        f"{counted(len(damaged), 'file')} of {installed.name} {installed.version} {verbs[0]} missing, or "
        f"{verbs[1]} replaced after the installation ({_names(damaged)}). Reinstall it: "
        f"pip install --force-reinstall --no-deps {installed.name}"
    )


def _is_intact(path: Path, digest: str) -> bool:
    try:
        found = hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return False
    return base64.urlsafe_b64encode(found).rstrip(b"=").decode() == digest


def _names(paths: list[Path]) -> str:
    more = ", ..." if len(paths) > SHOWN else ""
    return ", ".join(str(each) for each in paths[:SHOWN]) + more
