"""The files of a new distribution: rendered from templates, and written all at once."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from shutil import rmtree
from string import Template
from typing import Final

from apflow.cli.release import VERSION
from apflow.cli.scaffold.kinds import Kind
from apflow.cli.scaffold.names import Names
from apflow.core.errors import InvalidInputError

TEMPLATES: Final = files("apflow.cli.scaffold") / "templates"


def render(kind: Kind, names: Names) -> dict[str, str]:
    """Return the text of each file of a distribution by its path in it, with slashes."""
    module = names.module
    places = {
        "pyproject.toml": "common/pyproject.toml.txt",
        "README.md": "common/README.md.txt",
        ".gitignore": "common/gitignore.txt",
        ".github/workflows/test.yml": "common/ci.yml.txt",
        f"src/{module}/__init__.py": f"{kind.name}/module.py.txt",
        f"tests/test_{module}.py": f"{kind.name}/test_plugin.py.txt",
    }
    values = _values(kind, names)
    rendered = {
        place: Template(TEMPLATES.joinpath(*source.split("/")).read_text("utf-8")).substitute(values)
        for place, source in places.items()
    }
    return {**rendered, f"src/{module}/py.typed": ""}


def _values(kind: Kind, names: Names) -> Mapping[str, str]:
    """Return what the placeholders of the templates stand for."""
    values = {
        "name": names.project,
        "module": names.module,
        "class_name": names.class_name,
        "title": names.title,
        "id": names.extension_id,
        "description": names.description,
        "variable": names.module.upper(),
    }
    target = f"{names.module}:{Template(kind.target).substitute(values)}"
    return values | {
        "dependencies": _array([*(_in_range(each) for each in kind.requires), *kind.libraries]),
        "test_dependencies": _array([_in_range("apflow-testing"), *kind.test_libraries, "pytest>=8.4"]),
        "entry_points": "\n".join(_entry_points(kind, names, target)),
        "usage": Template(kind.usage).substitute(values),
        "contract": kind.contract,
    }


def _entry_points(kind: Kind, names: Names, target: str) -> Iterable[str]:
    yield f'[project.entry-points."{kind.group}"]'
    yield f'"{names.extension_id}" = "{target}"'
    if kind.name == "command":
        yield ""
        yield "# What `apflow --help` shows for the command."
        yield '[project.entry-points."apflow.command_summaries"]'
        yield f'"{names.description}." = "{target}"'


def _array(requirements: Iterable[str]) -> str:
    return "\n".join(f'    "{each}",' for each in sorted(requirements))


def _in_range(distribution: str) -> str:
    """Return a requirement of this version of apflow or a later one that does not break plugins."""
    major, minor, *_ = re.findall(r"\d+", VERSION)
    ceiling = f"0.{int(minor) + 1}" if major == "0" else f"{int(major) + 1}"
    return f"{distribution}>={VERSION},<{ceiling}"


def write(texts: Mapping[str, str], folder: Path) -> None:
    """Write files into a new folder, which appears when it is complete.

    Raises:
        InvalidInputError: the folder exists, or cannot be written. Nothing is left behind.
    """
    parent = folder.absolute().parent
    if os.path.lexists(folder):
        raise InvalidInputError(f"{folder} exists already. Choose another name, or another --directory.")
    if not parent.is_dir():
        raise InvalidInputError(f"Directory {parent} does not exist; create it first.")
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=parent))
        try:
            _fill(partial, texts)
            partial.rename(folder)
        except BaseException:
            rmtree(partial, ignore_errors=True)
            raise
    except OSError as error:
        raise InvalidInputError(f"{folder} cannot be written: {error.strerror or error}.") from error


def _fill(partial: Path, texts: Mapping[str, str]) -> None:
    for place, text in texts.items():
        path = partial / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")
    mask = os.umask(0)
    os.umask(mask)
    partial.chmod(0o777 & ~mask)  # mkdtemp lets only its owner in
