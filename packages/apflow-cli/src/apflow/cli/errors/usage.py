"""Commands that do not exist, and those that are spelled like them."""

from __future__ import annotations

import difflib

import click


def add_suggestion(error: click.ClickException) -> None:
    """Add a similar command to the message about an unknown one."""
    is_unknown = isinstance(error, click.UsageError) and error.message.startswith("No such command")
    if not is_unknown or "Did you mean" in error.format_message():
        return
    ctx = error.ctx
    if ctx is None or not isinstance(ctx.command, click.Group):
        return
    name = error.message.partition("'")[2].rpartition("'")[0]
    found = _similar(name, ctx.command, ctx)
    if found:
        error.message += f" Did you mean {ctx.command_path} {found}?"


def _similar(name: str, group: click.Group, ctx: click.Context) -> str:
    """Return the command of a group that is spelled like a name; else one of its groups with that name."""
    known = group.list_commands(ctx)
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return near[0]
    if "tasks" in known and isinstance(tasks := group.get_command(ctx, "tasks"), click.Group):
        near = difflib.get_close_matches(name, tasks.list_commands(ctx), n=1)
    return f"tasks {near[0]}" if near else ""
