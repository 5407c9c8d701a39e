"""`apflow run`: create trees of tasks and run them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from apflow.cli.inputs.options import session_of, with_outcome
from apflow.cli.inputs.parameter import parameter_option

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService


@click.group()
def run() -> None:
    """Run trees of tasks."""


@run.command()
@click.argument("executor", required=False)
@parameter_option("tasks.create", "tasks", "-t", "--tasks", metavar="JSON")
@click.option(
    "-f", "--tasks-file", metavar="FILE", help="A JSON or YAML file with the tasks; - is standard input."
)
@click.option("-i", "--inputs", metavar="JSON", help="The inputs of EXECUTOR.")
@click.option(
    "--inputs-file", metavar="FILE", help="A JSON or YAML file with the inputs; - is standard input."
)
@parameter_option("tasks.create", "user_id", "-u", "--user-id", metavar="ID")
@click.option(
    "-b",
    "--background",
    is_flag=True,
    help="Request the run and return; a server, `apflow worker` or the daemon, started if needed, runs it.",
)
@click.option("-w", "--watch", is_flag=True, help="Write each event of the run to standard error.")
@parameter_option(
    "tasks.submit", "idempotency_key", "--idempotency-key", metavar="KEY", more="Requires --background."
)
@with_outcome
@click.pass_context
def flow(
    ctx: click.Context,
    executor: str | None,
    tasks: str | None,
    tasks_file: str | None,
    inputs: str | None,
    inputs_file: str | None,
    user_id: str | None,
    background: bool,
    watch: bool,
    idempotency_key: str | None,
    output: Path | None,
    timeout: float | None,
) -> None:
    """Create a tree of tasks and run it until it has ended.

    Give the tasks (--tasks, --tasks-file), one EXECUTOR and its inputs, or FILE.py:NAME in place of EXECUTOR:
    a function with @flow or @task, whose arguments are the inputs. Tasks with several roots are several
    trees: the command runs each, and the outcome lists them.
    """
    from apflow.cli.inputs.source import trees_of
    from apflow.cli.session.running import Outcome, check_before_run, run_each, run_tree, tell
    from apflow.cli.session.work import perform

    given = _given(executor, tasks, tasks_file, inputs, inputs_file)
    trees = trees_of(given)
    if background:
        if watch:
            raise click.UsageError("--watch cannot be used with --background. Use `apflow tasks watch ID`.")
        if len(trees) > 1:
            _submit_each(ctx, trees, user_id=user_id, idempotency_key=idempotency_key, output=output)
        else:
            _submit(ctx, given, user_id=user_id, idempotency_key=idempotency_key, output=output)
        return
    if idempotency_key is not None:
        raise click.UsageError("--idempotency-key requires --background.")

    async def work(service: TaskService) -> Outcome:
        check_before_run(service, trees)
        if len(trees) > 1:
            return await run_each(service, trees, user_id=user_id, seconds=timeout, is_watched=watch)
        created = await service.create(given, user_id=user_id)
        outcome = await run_tree(service, created["id"], seconds=timeout, is_watched=watch)
        return outcome | {"ids": created["ids"]}

    tell(perform(ctx, work), is_json=session_of(ctx).is_json, output=output)


def _submit(
    ctx: click.Context, given: Any, *, user_id: str | None, idempotency_key: str | None, output: Path | None
) -> None:
    from apflow.cli.display.output import write_fields
    from apflow.cli.session.background import start_daemon_if_needed
    from apflow.cli.session.work import perform

    async def work(service: TaskService) -> dict[str, Any]:
        root = await service.submit(given, user_id=user_id, idempotency_key=idempotency_key)
        return {"root_task_id": root["id"], "status": root["status"], "ids": root["ids"], "root": root}

    submitted = perform(ctx, work)
    if not _write_as_json(ctx, submitted, output):
        write_fields({name: submitted[name] for name in ("root_task_id", "status")})
    start_daemon_if_needed(ctx, [submitted])


def _submit_each(
    ctx: click.Context,
    trees: list[Any],
    *,
    user_id: str | None,
    idempotency_key: str | None,
    output: Path | None,
) -> None:
    from apflow.cli.display.output import write_table
    from apflow.cli.session.background import start_daemon_if_needed
    from apflow.cli.session.work import perform

    async def work(service: TaskService) -> dict[str, Any]:
        roots = [
            await service.submit(
                each, user_id=user_id, idempotency_key=idempotency_key and f"{idempotency_key}:{at}"
            )
            for at, each in enumerate(trees)
        ]
        return {
            "trees": [
                {"root_task_id": root["id"], "status": root["status"], "ids": root["ids"]} for root in roots
            ]
        }

    submitted = perform(ctx, work)
    if not _write_as_json(ctx, submitted, output):
        write_table(
            ("root_task_id", "status"), [[e["root_task_id"], e["status"]] for e in submitted["trees"]]
        )
    start_daemon_if_needed(ctx, submitted["trees"])


def _write_as_json(ctx: click.Context, submitted: dict[str, Any], output: Path | None) -> bool:
    """Write the submitted trees to the output file, and as JSON if requested; return whether it was."""
    from apflow.cli.display.output import save_json, write_json

    if output is not None:
        save_json(output, submitted)
    if session_of(ctx).is_json:
        write_json(submitted)
    return session_of(ctx).is_json


def _given(
    executor: str | None,
    tasks: str | None,
    tasks_file: str | None,
    inputs: str | None,
    inputs_file: str | None,
) -> Any:
    """Return the tasks that the options describe."""
    from apflow.cli.inputs.source import read_option, read_source

    if sum(each is not None for each in (executor, tasks, tasks_file)) != 1:
        raise click.UsageError("Give exactly one of EXECUTOR, --tasks JSON and --tasks-file FILE.")
    if tasks is not None or tasks_file is not None:
        if inputs is not None or inputs_file is not None:
            raise click.UsageError("--inputs requires an EXECUTOR; tasks have their own inputs.")
        return (
            read_option("--tasks", tasks)
            if tasks is not None
            else read_source("--tasks-file", str(tasks_file))
        )
    if inputs is not None and inputs_file is not None:
        raise click.UsageError("Give either --inputs JSON or --inputs-file FILE.")
    read: Any = {}
    if inputs is not None:
        read = read_option("--inputs", inputs)
    elif inputs_file is not None:
        read = read_source("--inputs-file", inputs_file)
    return _tasks_of(str(executor), read)


def _tasks_of(executor: str, inputs: Any) -> list[dict[str, Any]]:
    """Return the tasks of an executor, or of a function in a Python file."""
    is_file = executor.endswith(".py") or ".py:" in executor
    if not is_file:
        return [{"name": executor, "schemas": {"method": executor}, "inputs": inputs}]
    from apflow.core.flows.file import tasks_of  # loads pydantic

    if not isinstance(inputs, dict):
        raise click.UsageError("--inputs must be a JSON object: the arguments of the function, by name.")
    return tasks_of(executor, cast("dict[str, Any]", inputs))
