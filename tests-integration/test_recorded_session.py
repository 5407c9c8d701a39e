"""The sessions in the documentation are what their commands print now."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from installing import ROOT, build, new_environment

TOOL = ROOT / "tools" / "record_session.py"
PAGE = ROOT / "docs" / "tutorial" / "a-session.md"


def record(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def test_the_session_is_what_its_commands_print():
    checked = record("--check")
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout + checked.stderr


def test_an_output_that_has_changed_is_found_and_recorded(tmp_path: Path):
    page = tmp_path / "page.md"
    text = "```text\n# a.txt\nin the file\n```\n\n```console\n$ cat a.txt; pwd\nin no file\n"
    text += "$ echo 0.1s\n7s\n```\n"
    page.write_text(text)
    checked = record(page, "--check")
    assert checked.returncode == 1
    assert "-in no file" in checked.stdout
    assert "+in the file" in checked.stdout
    assert "7s" not in checked.stdout
    assert page.read_text() == text
    assert record(page).returncode == 0
    assert "$ cat a.txt; pwd\n# a.txt\nin the file\n/home/ann\n$ echo 0.1s\n0.1s\n```" in page.read_text()
    assert record(page, "--check").returncode == 0


def record_terminal(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "record_terminal.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def test_the_pictures_show_what_their_sessions_print():
    checked = record_terminal("--check")
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout + checked.stderr


def test_a_picture_that_is_out_of_date_is_found(tmp_path: Path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "session.sh").write_text("echo new > a.txt\ncat a.txt\n")
    (tmp_path / "one.svg").write_text("<svg><text>$ echo new &gt; a.txt</text></svg>")
    checked = record_terminal("--sessions", tmp_path, "--check")
    assert checked.returncode == 1
    assert "one: $ cat a.txt" in checked.stdout
    assert "one: $ echo" not in checked.stdout


@pytest.mark.wheels
def test_the_packages_that_the_session_installs_are_enough_for_it(tmp_path: Path):
    [named] = re.findall(r"pip install \./packages/apflow-\{([\w,-]+)\}", PAGE.read_text())
    for each in named.split(","):
        build(ROOT / "packages" / f"apflow-{each}", tmp_path / "wheels")
    environment = new_environment(tmp_path / "venv")
    installed = environment.install(*(tmp_path / "wheels").glob("*.whl"))
    assert installed.returncode == 0, installed.stderr
    checked = record("--check", "--programs", environment.python.parent)
    assert checked.returncode == 0, checked.stdout + checked.stderr
