"""The names of a new distribution: of the project, its module, its class and its entry point.

Everything is checked before a file is written.
"""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

from apflow.cli.scaffold.kinds import Kind
from apflow.core import __all__ as names_of_core
from apflow.core import plugins
from apflow.core.errors import InvalidInputError
from apflow.core.extensions.first_party import FIRST_PARTY
from apflow.core.model.ids import fault_of_extension_id

# https://packaging.python.org/en/latest/specifications/name-normalization/
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?", re.IGNORECASE)
_OURS: Final = ("apflow", "aipartnerupflow")
# Modules that the tests and the build of the new distribution need under these names.
_OTHERS: Final = ("test", "tests", "src", "conftest")
MAX_DESCRIPTION: Final = 200


@dataclass(frozen=True)
class Names:
    """What a new distribution and the things in it are called."""

    project: str  # "acme-count-lines"
    module: str  # "acme_count_lines"
    class_name: str  # "AcmeCountLinesExecutor"
    title: str  # "Acme count lines"
    extension_id: str
    description: str  # one sentence without its full stop


def make_names(kind: Kind, name: str, extension_id: str | None, description: str | None) -> Names:
    """Return the names of a distribution.

    Args:
        name: of the project, as a user has written it.
        extension_id: the name of the entry point; None for the default.
        description: one sentence; None for the default.

    Raises:
        InvalidInputError: one of them cannot be used; the message says why, and what to do.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"{name!r} is not a valid name of a Python project. Use letters, digits and hyphens, a letter "
            "first, such as acme-count-lines."
        )
    project = re.sub(r"[-_.]+", "-", name).lower()
    words = project.split("-")
    names = Names(
        project=project,
        module="_".join(words),
        class_name="".join(word.capitalize() for word in _without(words, kind.suffix)) + kind.suffix,
        title=" ".join(words).capitalize(),
        extension_id=extension_id or (project if kind.is_hyphenated else "_".join(words)),
        description=(description or kind.summary).strip().rstrip("."),
    )
    for fault in (*_faults_of_module(names), *_faults_of_id(kind, names), *_faults_of_description(names)):
        raise InvalidInputError(fault)
    return names


def _without(words: list[str], suffix: str) -> list[str]:
    """Return the words without a last one that the suffix repeats."""
    return words[:-1] if words[1:] and words[-1] == suffix.lower() else words


def _faults_of_module(names: Names) -> Iterator[str]:
    module = names.module
    if module.split("_")[0] in _OURS:
        yield (
            f"Names that begin with {names.project.split('-')[0]} are reserved for the packages of apflow. "
            "Begin the name with that of your organization, or of what the plugin works with."
        )
    if not module.isidentifier() or keyword.iskeyword(module):
        advice = f"Begin the name with a letter, such as acme-{names.project}."
        yield f"A module cannot be called {module!r}. {advice}"
    elif module in sys.stdlib_module_names or module in _OTHERS:
        yield f"{module!r} is the name of another module that Python programs use. Choose a longer name."
    elif _is_importable(module):
        yield (
            f"A module {module!r} is installed already, and the new one would hide it. Choose another name, "
            "or uninstall the package that has it."
        )
    if names.class_name in names_of_core:
        yield f"The class would be called {names.class_name}, as one of apflow. Choose a longer name."


def _is_importable(module: str) -> bool:
    try:
        spec = find_spec(module)
    except (ImportError, ValueError):
        return True
    return spec is not None and spec.origin is not None  # a directory without __init__.py hides nothing


def _faults_of_id(kind: Kind, names: Names) -> Iterator[str]:
    found = names.extension_id
    noun = f"{kind.id_noun} {found!r}"
    advice = "Choose another one with --id."
    if not re.fullmatch(kind.id_pattern, found):
        yield f"The {noun} is not valid. Use {kind.id_rule}. {advice}"
        return
    fault = fault_of_extension_id(found)
    if fault is not None:
        yield f"The {noun} cannot be used: {fault}. {advice}"
    if found in kind.reserved or (kind.name == "executor" and found in FIRST_PARTY):
        yield f"The {noun} is reserved for apflow. {advice}"
    offers = [each for each in plugins.listing(kind.group) if each.name == found]
    if offers:
        yield f"The {noun} is taken: {offers[0].distribution} {offers[0].version} offers it. {advice}"


def _faults_of_description(names: Names) -> Iterator[str]:
    text = names.description
    is_plain = text.isprintable() and not set(text) & {'"', "\\"}
    if not text or not is_plain or len(text) > MAX_DESCRIPTION:
        yield (
            "The description must be one line of at most "
            f"{MAX_DESCRIPTION} characters, without double quotes and backslashes."
        )
