from __future__ import annotations

import re
from typing import Any

import pytest

HELLO = """
import click

@click.command()
def hello():
    "Greet."
    click.echo("hello from elsewhere")
"""
ENTRY_POINTS = """
[apflow.commands]
hello = elsewhere:hello
broken = elsewhere_broken:command
odd = elsewhere:HELLO

[apflow.command_summaries]
Greet: print one line, without a task. = elsewhere:hello
"""


@pytest.fixture
def extended(bare: Any) -> Any:
    """The program beside an installed distribution that brings commands, one of them broken."""
    metadata = bare.folder / "site" / "elsewhere-1.5.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.5\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    (bare.folder / "site" / "elsewhere.py").write_text(HELLO + "\nHELLO = 3\n")
    (bare.folder / "site" / "elsewhere_broken.py").write_text("import no_such_library\n")
    bare.environment["PYTHONPATH"] = str(bare.folder / "site")
    return bare


def test_a_command_of_another_distribution_is_listed_and_runs(extended):
    helped = extended("--help")
    assert re.search(r"(?m)^  hello +Greet: print one line, without a task\.$", helped.stdout)
    assert extended("hello").stdout == "hello from elsewhere\n"


def test_help_describes_a_command_without_importing_it(extended):
    (extended.folder / "site" / "elsewhere.py").write_text("raise SystemExit('imported')\n")
    helped = extended("--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "Greet: print one line" in helped.stdout


def test_help_names_the_distribution_of_a_command_without_a_summary(extended):
    assert re.search(r"(?m)^  odd +From elsewhere 1\.5\.$", extended("--help").stdout)


def test_a_broken_command_is_listed_and_takes_nothing_down(extended):
    helped = extended("--help")
    assert helped.returncode == 0
    assert "broken" in helped.stdout
    done = extended("broken")
    assert done.returncode == 1
    assert "elsewhere 1.5 cannot be loaded: ModuleNotFoundError" in done.stderr
    assert extended("version").returncode == 0


def test_an_object_that_is_not_a_command_is_reported(extended):
    assert "'odd' must be a click command, not a int" in extended("odd").stderr


def test_doctor_names_the_broken_command(extended):
    checks = {each["name"]: each for each in extended.json("doctor", code=1)["checks"]}
    assert checks["apflow.commands: broken"]["is_good"] is False
    assert checks["apflow.commands: hello"]["detail"] == "elsewhere 1.5"
