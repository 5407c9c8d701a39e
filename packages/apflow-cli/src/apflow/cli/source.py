"""Tasks and inputs as the command line takes them: JSON in an option, JSON or YAML in a file or a pipe."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, cast

import click
import yaml

from apflow.core.task import Json

STDIN = "-"


class PlainLoader(yaml.SafeLoader):
    """YAML whose values are those that JSON has: what looks like a date stays text."""


PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in cast("dict[str, Any]", yaml.SafeLoader.yaml_implicit_resolvers).items()
}


def read_option(name: str, text: str) -> Json:
    """Read the JSON that an option was given.

    Raises:
        click.UsageError: it is no JSON.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        advice = "Quote the whole of it for the shell, as in --tasks '[{\"name\": ...}]'; or use a file."
        raise click.UsageError(f"{name} is no JSON: {error}. {advice}") from error


def read_source(name: str, path: str) -> Json:
    """Read a JSON or YAML file; "-" is the standard input.

    Raises:
        click.UsageError: it cannot be read, or is neither.
    """
    try:
        text = sys.stdin.read() if path == STDIN else Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"{name} {path} cannot be read: {error}.") from error
    return parse(text, f"{name} {path}", is_json=path.lower().endswith(".json"))


def parse(text: str, where: str, *, is_json: bool = False) -> Json:
    """Read text as JSON or, unless it must be JSON, as YAML.

    Raises:
        click.UsageError: it is neither.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        if is_json or text.lstrip().startswith(("[", "{")):
            raise click.UsageError(f"{where} is no JSON: {error}.") from error
    try:
        return yaml.load(text, Loader=PlainLoader)  # noqa: S506  a SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        raise click.UsageError(f"{where} is neither JSON nor YAML: {error}.") from error


def trees_of(given: Json) -> list[Json]:
    """Return the tasks of each tree of what was given: one array per root.

    Raises:
        TreeInvalidError: there are several roots, and one of the trees is wrong: none is to be created.
    """
    from apflow.core.arraycheck import check_array, split_trees
    from apflow.core.settings import get_settings
    from apflow.core.treeservice import as_array

    trees = split_trees(as_array(given))
    if len(trees) > 1:
        for each in trees:
            check_array(each, get_settings())
        return list(trees)
    return [given]
