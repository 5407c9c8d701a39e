"""The options that select tasks, in commands that list them and that count them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from apflow.cli.inputs.parameter import Decorator, combined, parameter_option
from apflow.cli.inputs.times import Since, UtcTime

if TYPE_CHECKING:
    from apflow.core.model.status import TaskStatus


def with_filters(operation: str, root_only: Decorator) -> Decorator:
    """Add the options for the filters of `tasks.list` or `tasks.count` to a command.

    Args:
        root_only: the option for the parameter of this name, of which each operation has its own default.
    """
    options = (
        parameter_option(
            operation,
            "status",
            "-s",
            "--status",
            multiple=True,
            callback=_statuses,
            more="Repeatable.",
        ),
        parameter_option(operation, "user_id", "-u", "--user-id", metavar="ID"),
        parameter_option(operation, "name", "--name"),
        parameter_option(operation, "label", "--label", metavar="TEXT"),
        parameter_option(
            operation,
            "tags",
            "--tag",
            metavar="TAG",
            multiple=True,
            default=None,
            callback=_tags,
            more="Repeatable.",
        ),
        parameter_option(operation, "key", "--key"),
        root_only,
        parameter_option(operation, "is_running", "--running/--not-running", default=None),
        parameter_option(operation, "original_task_id", "--original", metavar="ID"),
        parameter_option(operation, "id_prefix", "--id-prefix", metavar="TEXT"),
        parameter_option(operation, "since", "--since", metavar="SPAN", type=Since()),
        parameter_option(operation, "created_after", "--created-after", type=UtcTime(), more="In UTC."),
        parameter_option(operation, "created_before", "--created-before", type=UtcTime(), more="In UTC."),
    )
    return combined(options)


def _tags(_ctx: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> list[str]:
    return list(given)


def _statuses(
    _ctx: click.Context, _parameter: click.Parameter, given: tuple[str, ...]
) -> list[TaskStatus] | None:
    from apflow.core.model.status import TaskStatus

    return [TaskStatus(each) for each in given] or None
