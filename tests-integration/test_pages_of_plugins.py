"""The programs on the pages about plugins, as a reader has them: each one file, in one process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

HOW_TO = Path(__file__).resolve().parent.parent / "docs" / "how-to"
# "Save this file as `x.py`", the program, and what "`python x.py` prints": in the line, or in a block.
PROGRAM = re.compile(
    r"[Ss]ave this file as\s+`(?P<file>\w+\.py)`:\n\n```python\n(?P<text>.*?)```\n\n"
    r"`python (?P=file)` prints(?: `(?P<line>[^`]+)`|:\n\n```text\n(?P<block>.*?)```)",
    re.DOTALL,
)
NAMED = re.compile(r"[Ss]ave this file as\s+`(\w+\.py)`")


class Program(NamedTuple):
    file: str
    text: str
    printed: str


def programs(page: str) -> list[Program]:
    """Return the programs of a page."""
    found = PROGRAM.finditer((HOW_TO / page).read_text())
    return [Program(each["file"], each["text"], each["line"] or each["block"].rstrip("\n")) for each in found]


PAGES = ("write-an-executor.md", "write-plugins.md")
EVERY = [each for page in PAGES for each in programs(page)]


def run(*command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("APFLOW_")}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**plain, "HOME": str(folder), **variables},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize("page", PAGES)
def test_every_named_file_is_a_program_that_says_what_it_prints(page: str):
    named = NAMED.findall((HOW_TO / page).read_text())
    assert named == [each.file for each in programs(page)]
    assert named


@pytest.mark.parametrize("program", EVERY, ids=[each.file for each in EVERY])
def test_a_program_prints_what_its_page_says(program: Program, tmp_path: Path):
    (tmp_path / program.file).write_text(program.text)
    done = run(program.file, folder=tmp_path, PYTHONWARNINGS="error")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.rstrip("\n") == program.printed


def test_the_test_file_of_the_page_passes(tmp_path: Path):
    text = (HOW_TO / "test-plugins.md").read_text()
    [block] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "test_count_words.py").write_text(block)
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_count_words.py", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    [count] = re.findall(r"runs (\d+) tests", text)
    assert f"{count} passed" in done.stdout


def test_the_failure_that_the_page_shows_is_what_pytest_shows(tmp_path: Path):
    text = (HOW_TO / "test-plugins.md").read_text()
    [block] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "test_count_words.py").write_text(block.replace('effect = "pure"', 'effect = "maybe"'))
    done = run("-m", "pytest", "-p", "no:cacheprovider", "test_count_words.py", folder=tmp_path)
    [shown] = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    words = " ".join(done.stdout.split())
    for line in " ".join(shown.split()).split("-" * 28)[0::2]:
        assert " ".join(line.strip("- ").split()) in words


def test_the_tables_name_everything_that_an_executor_has():
    """Attributes and methods of the base class are on the page; a new one is missing until it is added."""
    from apflow.core.extensions.executor import BaseTask, ExecutableTask

    page = (HOW_TO / "write-an-executor.md").read_text()
    public = {name for name in (*vars(ExecutableTask), *ExecutableTask.__annotations__) if name[:1] != "_"}
    # Objects of the engine behind these; `inputs_schema` stands for get_input_schema.
    inner = {"stored_task", "policy_effect", "event_queue", "task_log", "running_call", "get_input_schema"}
    assert sorted(name for name in public - inner if not re.search(rf"`?\b{name}\b", page)) == []
    assert "inputs_schema" in vars(BaseTask)
    assert "`inputs_schema`" in page
