"""What a command found, as JSON, YAML or ids, if the user asked for that instead of a table."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping

import click

from apflow.cli.display.output import encode, write_json, write_line
from apflow.cli.inputs.options import session_of
from apflow.core.model.task import Json
from apflow.core.process.printable import printable


def write_as_asked(ctx: click.Context, document: Mapping[str, Json], ids: Iterable[str] = ()) -> bool:
    """Write a document as JSON or YAML, or the ids in it; return whether one of them was asked for.

    `root` of the document may hold a tree of any depth.
    """
    session = session_of(ctx)
    match "json" if session.is_json else session.format:
        case "json":
            write_json(document)
        case "yaml":
            _write_yaml(document)
        case "id":
            for each in ids:
                write_line(each)
        case _:
            return False
    return True


def _write_yaml(document: Mapping[str, Json]) -> None:
    import yaml  # here: it is slow to import

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Json) -> bool:  # noqa: ARG002 - each value is written whole
            return True

    try:
        plain = json.loads("".join(encode(document)))
        text = yaml.dump(plain, Dumper=Dumper, allow_unicode=True, sort_keys=False, width=100)
    except RecursionError:
        raise click.UsageError("This tree is too deep for YAML. Use --format json.") from None
    sys.stdout.write(printable(text, keeps_lines=True) if sys.stdout.isatty() else text)
