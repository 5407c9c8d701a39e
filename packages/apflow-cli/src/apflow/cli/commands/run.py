"""`apflow run`: create trees of tasks and run them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apflow.cli.inputs.completion import complete_file, complete_run
from apflow.cli.inputs.options import session_of, set_option, with_outcome
from apflow.cli.inputs.parameter import parameter_option
from apflow.cli.inputs.root_description import described, with_description_options

if TYPE_CHECKING:
    from apflow.cli.inputs.run_source import GivenTrees
    from apflow.core.service.task_service import TaskService


@click.group()
def run() -> None:
    """Run trees of tasks."""


@run.command()
@click.argument("target", metavar="[EXECUTOR|FILE]", required=False, shell_complete=complete_run)
@parameter_option("tasks.create", "tasks", "-t", "--tasks", metavar="JSON")
@click.option(
    "-f",
    "--tasks-file",
    metavar="FILE",
    shell_complete=complete_file,
    help="A JSON or YAML file with the tasks; - is standard input.",
)
@set_option
@click.option(
    "-i",
    "--input",
    "items",
    multiple=True,
    metavar="NAME=VALUE",
    help="An input of EXECUTOR, of the type in its input schema; NAME:=JSON is any value. Repeatable.",
)
@click.option("--inputs", metavar="JSON", help="The inputs of EXECUTOR.")
@click.option(
    "--inputs-file",
    metavar="FILE",
    shell_complete=complete_file,
    help="A JSON or YAML file with the inputs; - is standard input.",
)
@parameter_option("tasks.create", "user_id", "-u", "--user-id", metavar="ID")
@with_description_options("tasks.create")
@click.option(
    "-b",
    "--background",
    is_flag=True,
    help="Request the run and return; a server, `apflow worker` or the daemon, started if needed, runs it.",
)
@click.option("-w", "--watch", is_flag=True, help="Write each event of the run to standard error.")
@click.option("--webhook", metavar="URL", help="Send each event of the run to this URL, as JSON.")
@click.option("--on-failure", metavar="URL", help="Send the last event of the run to this URL if it fails.")
@parameter_option(
    "tasks.submit", "idempotency_key", "--idempotency-key", metavar="KEY", more="Requires --background."
)
@parameter_option("tasks.submit", "no_cache", "--no-cache", is_flag=True)
@with_outcome
@click.pass_context
def flow(
    ctx: click.Context,
    /,
    user_id: str | None,
    label: str | None,
    tags: tuple[str, ...],
    background: bool,
    watch: bool,
    webhook: str | None,
    on_failure: str | None,
    idempotency_key: str | None,
    no_cache: bool,
    output: Path | None,
    timeout: float | None,
    **source: Any,
) -> None:
    """Create a tree of tasks and run it until it has ended.

    Give a FILE of tasks (.yaml, .yml or .json), the tasks themselves (--tasks), or one EXECUTOR and its
    inputs. FILE.py:NAME in place of EXECUTOR is a function with @flow or @task, whose arguments are the
    inputs. Tasks with several roots are several trees: the command runs each, and the outcome lists them.
    """
    from apflow.cli.inputs.run_source import RunSource, read_trees
    from apflow.cli.session.running import (
        RunResult,
        check_before_run,
        run_each,
        run_tree,
        with_traces,
        write_and_exit,
    )
    from apflow.cli.session.webhooks import check_webhook, webhook_config
    from apflow.cli.session.work import perform

    config = webhook_config(webhook, on_failure)
    given = read_trees(RunSource(**source))
    given = replace(given, trees=described(given.trees, label, tags))
    if background:
        asked: dict[str, Any] = {
            "user_id": user_id,
            "idempotency_key": idempotency_key,
            "no_cache": no_cache,
        }
        if watch:
            raise click.UsageError("--watch cannot be used with --background. Use `apflow tasks watch ID`.")
        if len(given.trees) > 1:
            if config is not None:
                raise click.UsageError("--webhook and --on-failure take one tree with --background.")
            _submit_each(ctx, given.trees, output, asked)
        else:
            _submit(ctx, given, config, output, asked)
        return
    if idempotency_key is not None:
        raise click.UsageError("--idempotency-key requires --background.")

    async def work(service: TaskService) -> RunResult:
        trees = await given.typed(service)
        await check_before_run(service, trees)
        await check_webhook(service, config)
        if len(trees) > 1:
            return await run_each(
                service,
                trees,
                user_id=user_id,
                seconds=timeout,
                is_watched=watch,
                webhook_config=config,
                no_cache=no_cache,
            )
        created = await service.create(trees[0], user_id=user_id)
        outcome = await run_tree(
            service,
            created["id"],
            no_cache=no_cache,
            seconds=timeout,
            is_watched=watch,
            webhook_config=config,
        )
        return outcome | {"ids": created["ids"]}

    write_and_exit(perform(ctx, with_traces(work)), is_json=session_of(ctx).is_json, output=output)


def _submit(
    ctx: click.Context,
    given: GivenTrees,
    config: dict[str, Any] | None,
    output: Path | None,
    asked: dict[str, Any],
) -> None:
    """Submit a tree, with a webhook if there is a configuration of one; `asked`: options of the request."""
    from apflow.cli.display.output import write_fields
    from apflow.cli.session.background import start_daemon_if_needed
    from apflow.cli.session.work import perform

    async def work(service: TaskService) -> dict[str, Any]:
        [tree] = await given.typed(service)
        if config is None:
            root = await service.submit(tree, **asked)
            return {"root_task_id": root["id"], "status": root["status"], "ids": root["ids"], "root": root}
        done = await service.execute(tasks=tree, webhook_config=config, **asked)
        names = ("root_task_id", "status", "ids", "webhook_id", "webhook_secret")
        return {name: done[name] for name in names if name in done} | {
            "root": await service.tree(done["root_task_id"])
        }

    submitted = perform(ctx, work)
    if not _write_as_json(ctx, submitted, output):
        names = ("root_task_id", "status", "webhook_id", "webhook_secret")
        write_fields({name: submitted[name] for name in names if name in submitted})
    start_daemon_if_needed(ctx, [submitted])


def _submit_each(
    ctx: click.Context,
    trees: list[Any],
    output: Path | None,
    asked: dict[str, Any],
) -> None:
    from apflow.cli.display.output import write_table
    from apflow.cli.session.background import start_daemon_if_needed
    from apflow.cli.session.work import perform

    key = asked.pop("idempotency_key")

    async def work(service: TaskService) -> dict[str, Any]:
        roots = [
            await service.submit(each, idempotency_key=key and f"{key}:{at}", **asked)
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
