"""`apflow man`: manual pages of all commands, from their help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from apflow.cli.inputs.options import session_of, with_output
from apflow.cli.release import VERSION

if TYPE_CHECKING:
    from apflow.core.model.task import Json


@click.command()
@click.argument("command", nargs=-1)
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIRECTORY",
    help="Write the pages of all commands into this directory.",
)
@with_output
@click.pass_context
def man(ctx: click.Context, /, command: tuple[str, ...], output: Path | None) -> None:
    """Write the manual page of a command.

    \b
    apflow man tasks list | man -l -
    apflow man --output ~/.local/share/man/man1
    """  # noqa: D301 - click's mark for lines that stay as they are
    from apflow.cli.display.man_page import context_of, man_page, pages
    from apflow.cli.display.output import write_json, write_line

    root = _root_context(ctx.find_root().command)
    if output is None:
        page = man_page(context_of(root, command), VERSION)
        if session_of(ctx).is_json:
            write_json({"page": page})
        else:
            write_line(page.rstrip("\n"))
        return
    if command:
        raise click.UsageError("--output writes the pages of all commands. Omit the command.")
    written = _write({name: man_page(each, VERSION) for name, each in pages(root)}, output)
    if session_of(ctx).is_json:
        write_json({"files": written})
    else:
        write_line(f"{len(written)} pages are in {output}.")


def _root_context(command: click.Command) -> click.Context:
    """Return a context of the program in which nothing has been parsed."""
    return click.Context(command, info_name="apflow", **command.context_settings)


def _write(texts: dict[str, str], directory: Path) -> list[Json]:
    """Write pages into a directory, and return the paths."""
    paths = {name: directory / f"{name}.1" for name in texts}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            paths[name].write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.UsageError(f"The pages cannot be written: {error}.") from error
    return [str(each) for each in paths.values()]
