"""`apflow new`: distributions of plugins, to begin with."""

from __future__ import annotations

from pathlib import Path

import click

from apflow.cli.inputs.options import session_of, with_output
from apflow.cli.scaffold.kinds import KINDS, Kind


@click.group()
def new() -> None:
    """Write a new Python package with a plugin, its tests and its metadata.

    \b
    apflow new executor acme-count-lines
    cd acme-count-lines
    python -m pip install -e ".[test]"
    pytest
    """  # noqa: D301 - click's mark for lines that stay as they are


def _command(kind: Kind) -> click.Command:
    @click.argument("name")
    @click.option("--id", "extension_id", metavar="ID", help=f"Its {kind.id_noun}; by default from NAME.")
    @click.option("--description", metavar="TEXT", help="What it does, in one sentence.")
    @click.option(
        "--directory",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        default=".",
        metavar="DIRECTORY",
        help="Where to write the package; by default the current directory.",
    )
    @with_output
    @click.pass_context
    def make(
        ctx: click.Context, /, name: str, extension_id: str | None, description: str | None, directory: Path
    ) -> None:
        _make(ctx, kind, name, extension_id, description, directory)

    help_text = (
        f"{kind.about}\n\nWrites the package NAME into a new directory of that name. Nothing is written if "
        "NAME or the ID cannot be used, or if the directory exists."
    )
    return click.command(kind.name, help=help_text, short_help=kind.about)(make)


def _make(
    ctx: click.Context,
    kind: Kind,
    name: str,
    extension_id: str | None,
    description: str | None,
    directory: Path,
) -> None:
    from apflow.cli.display.output import write_json, write_line
    from apflow.cli.scaffold.distribution import render, write
    from apflow.cli.scaffold.names import make_names

    names = make_names(kind, name, extension_id, description)
    folder = directory / names.project
    texts = render(kind, names)
    write(texts, folder)
    if session_of(ctx).is_json:
        found = {"directory": str(folder), "id": names.extension_id, "group": kind.group}
        write_json({**found, "files": sorted(texts)})
        return
    write_line(f"{folder} has the {kind.name} {names.extension_id!r}. Continue with:")
    write_line(f"  cd {folder}")
    write_line('  python -m pip install -e ".[test]"')
    write_line("  pytest")


for each in KINDS:
    new.add_command(_command(each))
