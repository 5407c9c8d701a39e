"""`apflow validate`: check files of tasks without storing or running anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from apflow.cli.errors.exit_code import ExitCode
from apflow.cli.inputs.completion import complete_file
from apflow.cli.inputs.options import finish, import_option, session_of, set_option, with_output

if TYPE_CHECKING:
    from apflow.core.model.task import Json


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, shell_complete=complete_file)
@click.option("--schema", is_flag=True, help="Write the JSON Schema of files of tasks, for editors.")
@set_option
@import_option
@with_output
@click.pass_context
def validate(ctx: click.Context, files: tuple[str, ...], schema: bool, parameters: tuple[str, ...]) -> None:
    """Check files of tasks without storing or running anything.

    A FILE is JSON or YAML; - is standard input.

    Reports each fault with its line and column: malformed text, wrong fields, dependencies that do
    not exist, executors that are not installed, and inputs that an executor does not accept. Parameters
    have the values of --set and their defaults; tasks that use one without a value are checked as far as
    possible. The exit code is 2 if a file is invalid.
    """
    from apflow.cli.display.output import write_json, write_line
    from apflow.cli.session.preparation import prepare

    prepare(session_of(ctx))
    if schema:
        import json

        from apflow.core.authoring.tree_schema import tree_schema

        write_line(json.dumps(tree_schema(), indent=2))
        return
    if not files:
        raise click.UsageError("Name the files to check, or use - for standard input.")
    checked = [_check(each, parameters) for each in files]
    if session_of(ctx).is_json:
        write_json({"files": checked})
    else:
        for line in (line for each in checked for line in _lines(each)):
            write_line(line)
    if not all(each["valid"] for each in checked):
        finish(ExitCode.INVALID)


def _check(file: str, parameters: tuple[str, ...]) -> dict[str, Json]:
    from apflow.cli.inputs.file_check import check_file

    found = check_file(file, parameters)
    return {
        "file": file,
        "valid": not found.violations,
        "trees": found.trees,
        "tasks": found.tasks,
        "violations": [
            {"line": each.line, "column": each.column, "message": each.message} for each in found.violations
        ],
    }


def _lines(checked: dict[str, Any]) -> list[str]:
    file = checked["file"]
    if checked["valid"]:
        trees = "1 tree" if checked["trees"] == 1 else f"{checked['trees']} trees"
        tasks = "1 task" if checked["tasks"] == 1 else f"{checked['tasks']} tasks"
        return [f"{file}: valid ({trees}, {tasks})"]
    return [
        f"{file}{''.join(f':{at}' for at in (each['line'], each['column']) if at)}: {each['message']}"
        for each in checked["violations"]
    ]
