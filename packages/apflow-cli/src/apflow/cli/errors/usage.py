"""Commands that do not exist, and those that are spelled like them."""

from __future__ import annotations

import difflib

import click


def with_suggestion(error: click.ClickException) -> click.ClickException:
    """Return the error about an unknown command with a similar command in its message."""
    if not isinstance(error, click.UsageError) or not error.message.startswith("No such command"):
        return error
    ctx = error.ctx
    if ctx is None or "Did you mean" in error.format_message():
        return error
    group: click.Command = ctx.command
    name = error.message.partition("'")[2].rpartition("'")[0]
    found = _similar(name, group, ctx) if isinstance(group, click.Group) else ""
    if not found:
        return error
    return click.UsageError(f"{error.message} Did you mean {ctx.command_path} {found}?", ctx)


def _similar(name: str, group: click.Group, ctx: click.Context) -> str:
    """Return the command of a group that is spelled like a name; else one of its groups with that name."""
    known = group.list_commands(ctx)
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return near[0]
    if "tasks" in known and isinstance(tasks := group.get_command(ctx, "tasks"), click.Group):
        near = difflib.get_close_matches(name, tasks.list_commands(ctx), n=1)
    return f"tasks {near[0]}" if near else ""
