from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from apflow.cli.program import COMMANDS, SUMMARIES, program
from apflow.cli.release import VERSION
from apflow.core import plugins

FORBIDDEN = {
    "asyncio",
    "sqlalchemy",
    "pydantic",
    "httpx",
    "rich",
    "duckdb",
    "yaml",
    "orjson",
    "jsonschema_rs",
}
SHOW_MODULES = "import sys\ntry:\n    import runpy; runpy.run_module('apflow.cli', run_name='__main__')\n\
except SystemExit: pass\nprint(sorted(sys.modules), file=sys.stderr)"


def modules_of(*arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", SHOW_MODULES, *arguments], capture_output=True, text=True, check=True
    )
    return set(eval(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["run", "flow", "--help"], ["tasks", "--help"]]
)
def test_version_and_help_import_click_alone(arguments: list[str]):
    loaded = modules_of(*arguments)
    assert "click" in loaded
    assert loaded.isdisjoint(FORBIDDEN)


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["tasks", "list", "--help"]], ids=" ".join)
def test_the_version_and_help_are_shown_without_reading_metadata(arguments: list[str]):
    assert "importlib.metadata" not in modules_of(*arguments)


def test_the_version_shown_is_the_one_released():
    described = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    assert described["project"]["version"] == VERSION


def test_the_summaries_in_the_metadata_are_the_short_help_of_the_commands():
    ours = [each for each in plugins.listing(COMMANDS) if each.distribution.startswith("apflow-")]
    commands: dict[str, Any] = {each.value: plugins.load(COMMANDS, each.name) for each in ours}
    assert {command.get_short_help_str(limit=100): value for value, command in commands.items()} == {
        each.name: each.value for each in plugins.listing(SUMMARIES)
    }


def every_command(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            found += every_command(below, (*path, name))
    return found


@pytest.mark.parametrize("path", every_command(program), ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...]):
    done = CliRunner().invoke(program, [*path, "--help"])
    assert done.exit_code == 0
    assert "Usage:" in done.output


@pytest.mark.parametrize(
    "path",
    [
        each
        for each in every_command(program)
        if (len(each) > 1 and each[-1] != "secrets") or each == ("doctor",)
    ],
)
def test_every_command_writes_json_and_shows_tracebacks(path: tuple[str, ...]):
    helped = CliRunner().invoke(program, [*path, "--help"]).output
    assert "--json" in helped
    assert "--debug" in helped


def test_an_unknown_command_exits_2(bare):
    done = bare("rnu")
    assert done.returncode == 2
    assert "No such command 'rnu'" in done.stderr
    assert done.stdout == ""


def test_an_unknown_option_exits_2(bare):
    assert bare("tasks", "list", "--colour").returncode == 2
