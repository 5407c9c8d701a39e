"""`apflow generate`: trees of tasks from requirements, by a language model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from apflow.cli.inputs.options import session_of, with_service
from apflow.cli.inputs.parameter import parameter_option
from apflow.cli.inputs.root_description import with_description_options

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService


@click.group()
def generate() -> None:
    """Generate trees of tasks with a language model."""


@generate.command("task-tree")
@click.argument("requirement")
@parameter_option("tasks.generate", "provider", "--provider", metavar="NAME")
@parameter_option("tasks.generate", "model", "--model", metavar="NAME")
@parameter_option("tasks.generate", "temperature", "--temperature", type=click.FloatRange(0, 2))
@parameter_option("tasks.generate", "max_tokens", "--max-tokens")
@parameter_option("tasks.generate", "save", "--save", is_flag=True)
@parameter_option("tasks.generate", "user_id", "-u", "--user-id", metavar="ID")
@with_description_options("tasks.generate")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the tasks to this file, as a JSON array for `apflow run flow --tasks-file`.",
)
@with_service
@click.pass_context
def task_tree(ctx: click.Context, /, requirement: str, output: Path | None, **options: Any) -> None:
    """Generate a tree of tasks from a REQUIREMENT in words. It is not run.

    A preview of the tree goes to standard error, and the tasks to standard output, unless --output or --save
    keeps them.
    """
    from apflow.cli.display.output import write_json, write_note
    from apflow.cli.session.work import perform

    if output is not None and not output.absolute().parent.is_dir():
        raise click.UsageError(f"Directory {output.parent} does not exist. Create it first.")
    given = {name: value for name, value in options.items() if value not in (None, ())}

    async def work(service: TaskService) -> dict[str, Any]:
        return await service.generate(requirement, **given)

    found = perform(ctx, work)
    if output is not None:
        _save(output, found["tasks"])
    if session_of(ctx).is_json:
        write_json(found)
        return
    write_note("\n".join(preview(found["tasks"])))
    if "root_task_id" in found:
        write_note(f"Created. Run it: apflow tasks execute {found['root_task_id']}")
    elif output is not None:
        write_note(f"Run it: apflow run flow --tasks-file {output}")
    else:
        _write_array(found["tasks"])


def preview(tasks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each task, indented below its parent: its name, its executor, what it depends on."""
    children: dict[str | None, list[Mapping[str, Any]]] = {}
    for task in tasks:
        children.setdefault(task.get("parent_id"), []).append(task)
    waiting = [(task, 0) for task in reversed(children.get(None, []))]
    while waiting:
        task, depth = waiting.pop()
        named = task.get("params", {}).get("executor_id") or task.get("schemas", {}).get("method")
        needs = [each if isinstance(each, str) else each["id"] for each in task.get("dependencies", [])]
        after = f", after {', '.join(needs)}" if needs else ""
        reference = task.get("id", task["name"])
        yield f"{'  ' * depth}{task['name']}  [{reference}: {named or 'group'}{after}]"
        waiting.extend((child, depth + 1) for child in reversed(children.get(reference, [])))


def _save(path: Path, tasks: Sequence[Mapping[str, Any]]) -> None:
    import json

    from apflow.core.process.atomic_file import write_whole

    write_whole(path, json.dumps(tasks, indent=2, ensure_ascii=False) + "\n", mode=0o644)


def _write_array(tasks: Sequence[Mapping[str, Any]]) -> None:
    import json

    from apflow.cli.display.output import write_line

    for line in json.dumps(tasks, indent=2).splitlines():
        write_line(line)
