"""Runs the Python blocks of README.md and docs/ as tests, and keeps tests away from the user's own files.

The blocks of one page share their names, as a reader who types them in one after the other would see it.
Each page starts in an empty folder of its own.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser


def ignore_signal(_number: int, _frame: object) -> None:
    """Do nothing. Programs that tests start do not inherit a handler, as they do SIG_IGN."""


# Options for this run are not for those that tests start.
os.environ.pop("PYTEST_ADDOPTS", None)

# What a shell starts in the background, or nohup, ignores these signals. Programs under test would
# inherit that, and never end by Ctrl-C.
for each in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(each) is signal.SIG_IGN:
        signal.signal(each, ignore_signal)

# What needs CrewAI has a separate environment: hatch run executor-crewai:test.
if importlib.util.find_spec("apflow.executor.crewai") is None:
    collect_ignore = ["packages/apflow-executor-crewai"]

# A busy machine exceeds Hypothesis's default deadline of 200 ms for one example.
settings.register_profile("apflow", deadline=None)
settings.load_profile("apflow")


@pytest.fixture(scope="session", autouse=True)
def no_settings_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads the user's settings or writes to the user's default database."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [each for each in os.environ if each.startswith(("APFLOW_", "AIPARTNERUPFLOW_"))]:
            patch.delenv(name)
        patch.delenv("DATABASE_URL", raising=False)
        for kind in ("CONFIG", "DATA", "STATE"):
            patch.setenv(f"XDG_{kind}_HOME", str(tmp_path_factory.mktemp(kind.lower())))
        yield


def begin_page(namespace: dict[str, Any]) -> None:
    """Give a page an empty folder, and names as a program has them."""
    namespace["__name__"] = "__main__"
    leave = namespace["_leave_page"] = ExitStack()
    folder = leave.enter_context(tempfile.TemporaryDirectory())
    leave.callback(os.chdir, Path.cwd())
    os.chdir(folder)


def end_page(namespace: dict[str, Any]) -> None:
    """Forget what the page registered, and leave its folder."""
    from apflow.core import settings
    from apflow.core.extensions import hooks

    hooks.clear_hooks()
    settings.reset_settings()
    namespace["_leave_page"].close()


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["README.md", "docs/**/*.md"],
    excludes=["packages/*/README.md", "changelog.d/*"],
    setup=begin_page,
    teardown=end_page,
).pytest()
