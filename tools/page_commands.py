"""The reference page of commands, from their help."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click
from markdown import GENERATED, code, page, table

from apflow.cli.display.man_page import pages
from apflow.cli.program import program

HEAD = """# Commands

What `--help` says of each command, and `apflow man` as manual pages. [Exit codes](exit-codes.md) are the
same for all of them, and `--json` prints one document with `schema_version`."""


def commands_page() -> str:
    root = click.Context(program, info_name="apflow", **program.context_settings)
    return page(HEAD, GENERATED, *(part for _, ctx in pages(root) for part in section(ctx)))


def section(ctx: click.Context) -> Iterator[str]:
    command = ctx.command
    yield f"## {ctx.command_path}"
    yield f"`{ctx.command_path} {' '.join(command.collect_usage_pieces(ctx))}`"
    yield from paragraphs(command.help or "")
    records = [each.get_help_record(ctx) for each in command.get_params(ctx) if each.name != "help"]
    if rows := [[code(names), about] for names, about in filter(None, records)]:
        yield table(["option", "meaning"], rows)


def paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help text; those after click's mark are lines of a console."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text.partition("\f")[0])):
        mark, _, rest = paragraph.partition("\n")
        if mark.strip() == "\b":
            yield f"```text\n{rest}\n```"
        else:
            yield re.sub(r"<|>", lambda found: {"<": "&lt;", ">": "&gt;"}[found.group()], paragraph)
