"""`apflow plan`: what a tree would do, without storing or running it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from apflow.cli.errors.exit_code import ExitCode
from apflow.cli.inputs.completion import complete_file
from apflow.cli.inputs.options import finish, import_option, session_of, set_option, with_service

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService


@click.command()
@click.argument("file", shell_complete=complete_file)
@set_option
@import_option
@with_service
@click.pass_context
def plan(ctx: click.Context, file: str, parameters: tuple[str, ...]) -> None:
    """Show what the tasks of FILE would do, without storing or running them.

    FILE is JSON or YAML; - is standard input. Shows the waves in which tasks start, the critical path,
    durations and cost from the history of tasks with the same name and executor, what would make tasks fail,
    secrets that are not set, and what the tree may touch: hosts, commands, images and secrets. The exit code
    is 2 if a task would fail before its code runs, or a secret is not set.
    """
    from apflow.cli.display.output import write_json
    from apflow.cli.display.plan import write_plan
    from apflow.cli.inputs.source import read_source, trees_of
    from apflow.cli.session.work import perform

    trees = trees_of(read_source("", file), parameters)

    async def work(service: TaskService) -> list[dict[str, Any]]:
        return [await service.plan(each) for each in trees]

    found = perform(ctx, work)
    if session_of(ctx).is_json:
        write_json(found[0] if len(found) == 1 else {"trees": found})
    else:
        for each in found:
            write_plan(each)
    if any(each["problems"] or set(each["secrets"].values()) - {"set"} for each in found):
        finish(ExitCode.INVALID)
