"""`apflow run`: trees of tasks, created and run at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apflow.cli.inputs.options import session_of, with_outcome

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService


@click.group()
def run() -> None:
    """Run trees of tasks."""


@run.command()
@click.argument("executor", required=False)
@click.option("-t", "--tasks", metavar="JSON", help="The tasks: an array of objects, or one object.")
@click.option(
    "-f", "--tasks-file", metavar="FILE", help="A JSON or YAML file with the tasks; - is standard input."
)
@click.option("-i", "--inputs", metavar="JSON", help="The inputs of EXECUTOR.")
@click.option(
    "--inputs-file", metavar="FILE", help="A JSON or YAML file with the inputs; - is standard input."
)
@click.option("-u", "--user-id", metavar="ID", help="The owner of the tasks.")
@click.option("-b", "--background", is_flag=True, help="Only request the run: `apflow worker` runs the tree.")
@click.option("-w", "--watch", is_flag=True, help="Write each event of the run to standard error.")
@click.option(
    "--idempotency-key", metavar="KEY", help="With --background: submit only once for the same key."
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
    """Create a tree of tasks and run it to its end.

    Give the tasks (--tasks, --tasks-file), or one EXECUTOR and its inputs. Tasks with several roots are
    several trees: each is run, and the outcome lists them.
    """
    from apflow.cli.inputs.source import trees_of
    from apflow.cli.session.running import Outcome, run_each, run_tree, tell
    from apflow.cli.session.work import perform

    given = _given(executor, tasks, tasks_file, inputs, inputs_file)
    trees = trees_of(given)
    if background:
        if watch:
            raise click.UsageError("--watch does not go with --background. Use `apflow tasks watch ID`.")
        if len(trees) > 1:
            _submit_each(ctx, trees, user_id=user_id, idempotency_key=idempotency_key, output=output)
        else:
            _submit(ctx, given, user_id=user_id, idempotency_key=idempotency_key, output=output)
        return
    if idempotency_key is not None:
        raise click.UsageError("--idempotency-key goes with --background.")

    async def work(service: TaskService) -> Outcome:
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
    from apflow.cli.session.work import perform

    async def work(service: TaskService) -> dict[str, Any]:
        root = await service.submit(given, user_id=user_id, idempotency_key=idempotency_key)
        return {"root_task_id": root["id"], "status": root["status"], "ids": root["ids"], "root": root}

    submitted = perform(ctx, work)
    if not _write_as_json(ctx, submitted, output):
        write_fields({name: submitted[name] for name in ("root_task_id", "status")})


def _submit_each(
    ctx: click.Context,
    trees: list[Any],
    *,
    user_id: str | None,
    idempotency_key: str | None,
    output: Path | None,
) -> None:
    from apflow.cli.display.output import write_table
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


def _write_as_json(ctx: click.Context, submitted: dict[str, Any], output: Path | None) -> bool:
    """Save what was submitted where a file is named, and print it where JSON is asked for; say if it was."""
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
        raise click.UsageError("Give what to run in one way: an EXECUTOR, --tasks JSON or --tasks-file FILE.")
    if tasks is not None or tasks_file is not None:
        if inputs is not None or inputs_file is not None:
            raise click.UsageError("--inputs goes with an EXECUTOR; tasks carry their own inputs.")
        return (
            read_option("--tasks", tasks)
            if tasks is not None
            else read_source("--tasks-file", str(tasks_file))
        )
    if inputs is not None and inputs_file is not None:
        raise click.UsageError("Give the inputs in one way: --inputs JSON or --inputs-file FILE.")
    read: Any = {}
    if inputs is not None:
        read = read_option("--inputs", inputs)
    elif inputs_file is not None:
        read = read_source("--inputs-file", inputs_file)
    return [{"name": executor, "schemas": {"method": executor}, "inputs": read}]
