"""Manual pages of commands, in the language of man(7). Pure."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

_PARAGRAPHS = re.compile(r"\n\s*\n")


def pages(root: click.Context) -> Iterator[tuple[str, click.Context]]:
    """Yield each command below a context, and the command itself, with the name of its page.

    Commands that are hidden have no page.
    """
    waiting = [root]
    while waiting:
        ctx = waiting.pop()
        yield page_name(ctx), ctx
        if isinstance(ctx.command, click.Group):
            waiting += [below for _, below in reversed(list(_commands(ctx)))]


def page_name(ctx: click.Context) -> str:
    """Return the name of the page of a command, such as "apflow-tasks-list"."""
    return ctx.command_path.replace(" ", "-")


def context_of(root: click.Context, path: tuple[str, ...]) -> click.Context:
    """Return the context of a command below `root`.

    Raises:
        click.UsageError: there is no such command.
    """
    ctx = root
    for name in path:
        found = ctx.command.get_command(ctx, name) if isinstance(ctx.command, click.Group) else None
        if found is None:
            raise click.UsageError(f"No such command: {ctx.command_path} {name}.")
        ctx = _below(ctx, name, found)
    return ctx


def man_page(ctx: click.Context, version: str) -> str:
    """Return the page of a command."""
    name = page_name(ctx)
    lines = [
        f'.TH "{_escaped(name.upper())}" "1" "" "apflow {_escaped(version)}" "apflow manual"',
        ".SH NAME",
        rf"{_escaped(name)} \- {_escaped(ctx.command.get_short_help_str(limit=200))}",
        ".SH SYNOPSIS",
        rf"\fB{_escaped(ctx.command_path)}\fP {_escaped(' '.join(ctx.command.collect_usage_pieces(ctx)))}",
        ".SH DESCRIPTION",
        *_description(ctx.command.help or ""),
        *_options(ctx),
        *_subcommands(ctx),
        *_see_also(ctx),
    ]
    return "\n".join(lines) + "\n"


def _description(text: str) -> Iterator[str]:
    """Yield the paragraphs of a help text. Lines after click's mark for this are not joined."""
    for number, paragraph in enumerate(_PARAGRAPHS.split(inspect.cleandoc(text.partition("\f")[0]))):
        if number:
            yield ".PP"
        lines = [line.strip() for line in paragraph.strip().splitlines()]
        if lines and lines[0] == "\b":
            yield ".nf"
            yield from (_line(line) for line in lines[1:])
            yield ".fi"
        else:
            yield _line(" ".join(lines))


def _options(ctx: click.Context) -> Iterator[str]:
    records = [param.get_help_record(ctx) for param in ctx.command.get_params(ctx)]
    shown = [record for record in records if record is not None]
    if shown:
        yield ".SH OPTIONS"
    for names, about in shown:
        yield ".TP"
        yield rf"\fB{_escaped(names)}\fP"
        yield _line(" ".join(about.split()))


def _subcommands(ctx: click.Context) -> Iterator[str]:
    found = list(_commands(ctx))
    if found:
        yield ".SH COMMANDS"
    for name, below in found:
        yield ".TP"
        yield rf"\fB{_escaped(name)}\fP"
        yield _line(below.command.get_short_help_str(limit=200))
        yield rf"See \fB{_escaped(page_name(below))}\fP(1)."


def _see_also(ctx: click.Context) -> Iterator[str]:
    if ctx.parent is not None:
        yield ".SH SEE ALSO"
        yield rf"\fB{_escaped(page_name(ctx.parent))}\fP(1)"


def _commands(ctx: click.Context) -> Iterator[tuple[str, click.Context]]:
    """Yield the visible commands of a group with their contexts."""
    if not isinstance(ctx.command, click.Group):
        return
    for name in ctx.command.list_commands(ctx):
        command = ctx.command.get_command(ctx, name)
        if command is not None and not command.hidden:
            yield name, _below(ctx, name, command)


def _below(ctx: click.Context, name: str, command: click.Command) -> click.Context:
    return click.Context(command, info_name=name, parent=ctx)


def _line(text: str) -> str:
    """Return one line of text that cannot be taken for a request of man(7)."""
    escaped = _escaped(text)
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


def _escaped(text: str) -> str:
    return text.replace("\\", r"\e").replace("-", r"\-").replace('"', r"\(dq")
