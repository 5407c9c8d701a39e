from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

# What the programs under test import: executors whose runs a test can hold up, watch and fail.
EXECUTORS = '''
import asyncio
from apflow.core import BaseTask, executor_register


@executor_register()
class Add(BaseTask):
    id = "add"
    name = "Add"
    description = "Adds two numbers."
    inputs_schema = {
        "type": "object",
        "properties": {"a": {"type": "number"}, "b": {"type": "number", "default": 1}},
        "required": ["a"],
    }

    async def execute(self, inputs):
        await self.report_progress(0.5, "halfway there")
        return {"sum": inputs["a"] + inputs["b"]}


@executor_register()
class Fail(BaseTask):
    id = "fail"

    async def execute(self, inputs):
        raise RuntimeError("as asked")


@executor_register()
class GiveUp(BaseTask):
    id = "give_up"

    async def execute(self, inputs):
        return {"status": "cancelled", "error": "not today"}


@executor_register()
class Hold(BaseTask):
    """Runs until a socket releases it, and reports its start and its end there."""

    id = "hold"

    async def execute(self, inputs):
        orders, test = await asyncio.open_connection("127.0.0.1", inputs["port"])
        await self.report_progress(0.25, "holding on")
        test.write(b"started\\n")
        try:
            await test.drain()
            return {"order": (await orders.readline()).decode().strip()}
        finally:
            test.write(b"ended\\n")
            test.close()
'''


@dataclass
class Program:
    """The real program, run in separate processes, in one directory with one database."""

    folder: Path
    url: str
    environment: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        (self.folder / "works.py").write_text(EXECUTORS)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "apflow.cli", *arguments]

    @property
    def variables(self) -> dict[str, str]:
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("APFLOW_", "AIPARTNER"))
        }
        own = {
            "APFLOW_DATABASE_URL": self.url,
            "APFLOW_BACKGROUND_DAEMON": "false",
            "HOME": str(self.folder),
            "PYTHONWARNINGS": "error::ResourceWarning",
        }
        return kept | own | self.environment

    def __call__(
        self, *arguments: str, stdin: str | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            encoding="utf-8",
            cwd=self.folder,
            env=self.variables | dict(env or {}),
            timeout=120,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.variables,
        )

    def json(self, *arguments: str, code: int = 0) -> Any:
        done = self(*arguments, "--json")
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return json.loads(done.stdout)

    def run(self, *tasks: Mapping[str, Any], code: int = 0) -> Any:
        return self.json("run", "flow", "--tasks", json.dumps(tasks), "--import", "works", code=code)


@pytest.fixture(scope="session")
def program_type() -> type[Program]:
    """For fixtures that need another program: test modules cannot import this file."""
    return Program


@pytest.fixture
def apflow(tmp_path: Path) -> Program:
    pytest.importorskip("apflow.storage.duckdb")
    return Program(tmp_path, f"duckdb:///{tmp_path}/tasks.duckdb")


@pytest.fixture
def bare(tmp_path: Path) -> Program:
    """The program where no database is needed."""
    return Program(tmp_path, "memory://")


class Held:
    """The test's end of the connection of a `hold` executor."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(60)
        self._open: list[Any] = []

    @property
    def inputs(self) -> dict[str, Any]:
        return {"port": self._server.getsockname()[1]}

    def wait_for_start(self) -> None:
        self._connection, _ = self._server.accept()
        self._connection.settimeout(60)
        self._file = self._connection.makefile("r")
        self._open += [self._connection, self._file]
        assert self._file.readline() == "started\n"

    def let_go(self) -> None:
        self._connection.sendall(b"go\n")

    def last_words(self) -> str:
        """What the executor said when it ended; nothing when its process was killed."""
        return self._file.readline()

    def close(self) -> None:
        for each in (self._server, *self._open):
            each.close()


@pytest.fixture
def held() -> Iterator[Held]:
    made = Held()
    yield made
    made.close()
