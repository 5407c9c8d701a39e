"""Tasks and inputs as the command line takes them: JSON in an option, JSON or YAML in a file or a pipe."""

from __future__ import annotations

import codecs
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

import click

from apflow.core.errors import MalformedFileError, MalformedTextError
from apflow.core.model.task import Json
from apflow.core.payload.file_text import read_file_text
from apflow.core.payload.json_text import read_json
from apflow.core.settings import get_settings

STDIN: Final = "-"
MAX_SIZE: Final = 256 << 20  # bytes of a file
CHUNK: Final = 1 << 20
ENVELOPE: Final = 8  # levels of JSON around the values of a task


def read_option(name: str, text: str) -> Json:
    """Read the JSON that an option was given.

    Raises:
        click.UsageError: the text is not JSON.
    """
    try:
        return read_json(text, max_depth=_max_depth())
    except MalformedTextError as error:
        advice = (
            " Quote the whole of it for the shell, as in --tasks '[{\"name\": ...}]'; or use a file."
            if isinstance(error.__cause__, json.JSONDecodeError)
            else ""
        )
        raise click.UsageError(f"{name} is not valid JSON: {error}{advice}") from error


def read_source(name: str, path: str) -> Json:
    """Read a JSON or YAML file; "-" is the standard input.

    Raises:
        click.UsageError: the file cannot be read, or is neither.
    """
    return parse(read_source_text(name, path), f"{name} {path}", suffix=Path(path).suffix.lower())


def read_source_text(name: str, path: str) -> str:
    """Read the text of a file; "-" is the standard input. `name` names the option in errors.

    Raises:
        click.UsageError: the file cannot be read, or is not text in UTF-8.
    """
    where = f"{name} {path}".lstrip()
    try:
        if path == STDIN:
            return _read_text(sys.stdin.buffer, where)
        with Path(path).open("rb") as file:
            return _read_text(file, where)
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{where} is not text in UTF-8: {error.reason}. Save it as UTF-8.") from error
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{where} cannot be read: {error}.") from error


def _read_text(file: BinaryIO, where: str) -> str:
    """Read text in UTF-8, no further than its first fault: a device may never end."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    parts: list[str] = []
    size = 0
    while data := file.read(CHUNK):
        size += len(data)
        if size > MAX_SIZE:
            raise click.UsageError(f"{where} is larger than {MAX_SIZE >> 20} MiB. Make several trees.")
        parts.append(decoder.decode(data))
        if "\0" in parts[-1]:
            raise click.UsageError(f"{where} contains a null byte: it is not a text file.")
    return "".join([*parts, decoder.decode(b"", final=True)])


def parse(text: str, where: str, *, suffix: str = "") -> Json:
    """Read text as JSON or, unless its suffix says JSON, as YAML.

    Raises:
        click.UsageError: it is neither, or is refused.
    """
    if not text.strip():
        raise click.UsageError(f"{where} is empty.")
    try:
        return read_file_text(text, max_depth=_max_depth(), suffix=suffix)
    except MalformedFileError as error:
        raise click.UsageError(f"{where} is {error}") from error


def _max_depth() -> int:
    return get_settings().max_json_depth + ENVELOPE


def trees_of(given: Json, parameters: Sequence[str] = ()) -> list[Json]:
    """Return the tasks of each tree of what was given: one array per root.

    Args:
        parameters: values of the parameters that the tasks declare, each as `NAME=VALUE`.

    Raises:
        InvalidInputError: a parameter has no value, a wrong one, or is declared or used wrongly.
        TreeInvalidError: there are several roots, and one of the trees is invalid: none will be created.
    """
    from apflow.cli.inputs.tree_file import with_parameters
    from apflow.core.authoring.array_validation import check_array, split_trees
    from apflow.core.service.trees import as_array

    given = with_parameters(given, parameters)
    trees = split_trees(as_array(given))
    if len(trees) > 1:
        for each in trees:
            check_array(each, get_settings())
        return list(trees)
    return [given]
