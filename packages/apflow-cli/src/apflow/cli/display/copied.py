"""The outcome of a command that copies tasks."""

from __future__ import annotations

from typing import Any

import click

from apflow.cli.display.output import write_json, write_table, write_tree
from apflow.cli.inputs.options import session_of


def write_copied(ctx: click.Context, found: dict[str, Any], *, dry_run: bool) -> None:
    """Write the new tree of a copy or a fork, or the tasks that would be created."""
    if session_of(ctx).is_json:
        write_json(found if dry_run else {"saved": True, "root": found})
    elif dry_run:
        write_table(
            ("id", "key", "name", "status"),
            [[each["id"], each["key"], each["name"], each.get("status")] for each in found["tasks"]],
        )
    else:
        write_tree(found)
