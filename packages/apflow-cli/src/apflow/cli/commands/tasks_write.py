"""The commands `create` and `update` of `apflow tasks`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from apflow.cli.inputs.given_tasks import read_given_tasks, with_given_tasks
from apflow.cli.inputs.options import session_of, with_service, with_task
from apflow.cli.inputs.parameter import parameter_option
from apflow.cli.inputs.root_description import described, with_description_options

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService

JSON_FIELDS = ("inputs", "params", "schemas", "policy", "dependencies", "result")


@click.command()
@with_given_tasks("tasks.create")
@parameter_option("tasks.create", "user_id", "-u", "--user-id", metavar="ID")
@with_description_options("tasks.create")
@with_service
@click.pass_context
def create(
    ctx: click.Context,
    tasks: str | None,
    tasks_file: str | None,
    parameters: tuple[str, ...],
    user_id: str | None,
    label: str | None,
    tags: tuple[str, ...],
) -> None:
    """Create a tree of tasks without running it. `apflow tasks execute ID` runs it."""
    from apflow.cli.display.output import write_json, write_tree
    from apflow.cli.session.work import perform

    trees = described(read_given_tasks(tasks, tasks_file, parameters), label, tags)

    async def work(service: TaskService) -> list[dict[str, Any]]:
        return [await service.create(each, user_id=user_id) for each in trees]

    created = perform(ctx, work)
    if session_of(ctx).is_json:
        write_json({"root": created[0]} if len(created) == 1 else {"roots": created})
    else:
        for root in created:
            write_tree(root)


@click.command()
@with_task
@parameter_option("tasks.update", "name", "--name")
@parameter_option("tasks.update", "label", "--label", metavar="TEXT")
@parameter_option("tasks.update", "tags", "--tags", metavar="TAGS", more="Separated by commas.")
@parameter_option("tasks.update", "priority", "-p", "--priority")
@parameter_option("tasks.update", "inputs", "-i", "--inputs", metavar="JSON")
@parameter_option("tasks.update", "params", "--params", metavar="JSON")
@parameter_option("tasks.update", "schemas", "--schemas", metavar="JSON")
@parameter_option("tasks.update", "policy", "--policy", metavar="JSON")
@parameter_option("tasks.update", "dependencies", "--dependencies", metavar="JSON")
@parameter_option("tasks.update", "status", "-s", "--status", type=click.Choice(["completed"]))
@parameter_option("tasks.update", "result", "--result", metavar="JSON")
@with_service
@click.pass_context
def update(ctx: click.Context, /, task_id: str, **fields: Any) -> None:
    """Change fields of a task: all of the given fields, or none. Other fields keep their values."""
    from apflow.cli.display.output import write_json
    from apflow.cli.display.task_fields import write_task
    from apflow.cli.inputs.source import read_option
    from apflow.cli.session.work import perform
    from apflow.core.service.runs import split_ids

    given = {name: value for name, value in fields.items() if value is not None}
    if not given:
        raise click.UsageError("Nothing to change: name a field, as in --priority 0.")
    if "tags" in given:
        given["tags"] = split_ids(given["tags"])
    for name in JSON_FIELDS:
        if name in given:
            given[name] = read_option(f"--{name}", given[name])

    async def work(service: TaskService) -> dict[str, Any]:
        from apflow.core.service.operations import OPERATIONS

        # Validated like a request, because the JSON may have any type.
        checked = OPERATIONS["tasks.update"].read({"task_id": await service.find_id(task_id), **given})
        return await service.update(**checked)

    found = perform(ctx, work)
    if session_of(ctx).is_json:
        write_json({"task": found})
    else:
        write_task(found)
