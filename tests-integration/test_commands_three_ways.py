"""Every command of the database runs three times, and prints the same each time.

The command does its work itself; the process that holds the database does it, asked at its Unix socket; or
a server does it, which is named with `--server`. Each time the database is as it was. What differs from run
to run is masked: times, durations, generated IDs, sizes, the number of rows with events, logs and workers,
and the name of the server or the database in notes.

One difference is intended: `run flow` refuses an unknown executor before anything is stored only where it
does its work itself, because another process may have other executors.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import click
import pytest
from peers.apflowserver import HERE, apflow_server, wait_for

from apflow.cli.program import program
from apflow.core.process.server_file import find_server

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs Unix sockets")

TREE = [
    {"id": "report", "name": "report"},
    {
        "id": "prints",
        "name": "far_print",
        "parent_id": "report",
        "inputs": {"lines": 3},
        "label": "The daily prints",
        "tags": ["nightly", "eu"],
    },
    {"id": "fails", "name": "far_fail", "parent_id": "report", "dependencies": ["prints"]},
    {
        "id": "goes-on",
        "name": "far_say",
        "parent_id": "report",
        "dependencies": [{"id": "fails", "required": False}],
    },
]
PENDING = [
    {"id": "made", "name": "made"},
    {"id": "says", "name": "far_say", "parent_id": "made", "inputs": {"text": "a"}},
]
OTHER = [{"id": "other", "name": "far_say"}]
YEARLY = ("schedules", "create", "--tasks", json.dumps(OTHER), "--cron", "@yearly", "--name", "yearly")
# In this order, each on what the commands before it have left.
SUITE = (
    ("tasks", "list"),
    ("tasks", "list", "--all", "--status", "failed", "--sort", "name", "-o", "wide"),
    ("tasks", "list", "--all", "--json"),
    ("tasks", "list", "-o", "yaml"),
    ("tasks", "list", "--name", "nothing"),
    ("tasks", "list", "--all", "--tag", "eu", "--tag", "nightly", "--label", "daily", "-o", "wide"),
    ("tasks", "running"),
    ("ps",),
    ("ps", "--all", "-o", "id"),
    ("tasks", "count"),
    ("tasks", "count", "--roots", "--json"),
    ("tasks", "get", "fails"),
    ("tasks", "get", "goes-on", "--json"),
    ("tasks", "get", "nothing"),
    ("tasks", "attempts", "fails", "--verbose"),
    ("tasks", "status", "report", "prints", "nothing"),
    ("tasks", "tree", "fails"),
    ("tasks", "tree", "report", "--status", "failed", "--json"),
    ("tasks", "children", "report"),
    ("tasks", "why", "fails", "--verbose"),
    ("tasks", "usage"),
    ("tasks", "usage", "report", "--json"),
    ("tasks", "budget", "report"),
    ("db", "query", "SELECT key, status, attempts FROM tasks ORDER BY key", "--timeout", "300"),
    ("db", "query", "SELECT name, tasks, failed FROM runs", "--timeout", "300", "--json"),
    ("db", "query", "DROP VIEW tasks", "--timeout", "300"),
    ("tasks", "export", "-"),
    ("tasks", "export", "-", "--tag", "nowhere", "--status", "failed", "--since", "1h"),
    ("stats",),
    ("stats", "--by", "tag", "--since", "1h", "--tag", "eu", "--json"),
    ("stats", "--by", "name", "-o", "csv", "--slowest", "0"),
    ("plan", "tree.json"),
    ("plan", "tree.json", "--json"),
    ("tasks", "logs", "report"),
    ("tasks", "logs", "prints", "--follow", "--json"),
    ("logs", "prints", "--limit", "2"),
    ("tasks", "watch", "report"),
    ("watch", "fails", "--json"),
    ("watch",),
    ("db", "info"),
    ("db", "info", "--json"),
    ("executors", "show", "far_say"),
    ("executors", "show", "far_sya"),
    ("tasks", "create", "--tasks", json.dumps(PENDING)),
    ("tasks", "create", "--tasks", '[{"name": "a", "dependencies": ["b"]}]'),
    ("tasks", "update", "made", "--name", "renamed", "--json"),
    ("tasks", "update", "says", "--priority", "0"),
    ("tasks", "update", "says", "--tags", "a,b", "--label", "Says a"),
    ("tasks", "update", "says", "--dependencies", '["nothing"]'),
    ("tasks", "budget", "says", "--calls", "3"),
    ("tasks", "execute", "made"),
    ("tasks", "execute", "says", "--force", "--json"),
    ("tasks", "copy", "made", "--dry-run"),
    ("tasks", "copy", "made", "--json"),
    ("tasks", "fork", "made", "--from", "says", "--set", "name=said", "--dry-run"),
    ("tasks", "fork", "made", "--set", "says:inputs.text=more"),
    ("tasks", "fork", "made", "--from", "nothing"),
    ("approvals", "list"),
    ("approvals", "list", "--status", "all", "--json"),
    ("approvals", "show", "report"),
    ("approvals", "approve", "report", "--answer", "a=1"),
    ("approvals", "reject", "nothing", "--reason", "No."),
    ("tasks", "create", "--tasks", json.dumps(OTHER)),
    ("tasks", "cancel", "other", "--message", "not needed"),
    ("cancel", "report"),
    ("tasks", "delete", "report"),
    ("tasks", "delete", "other", "--force"),
    ("tasks", "resume", "--all"),
    ("tasks", "resume", "nothing"),
    ("run", "flow", "far_say", "-i", "text=hello"),
    ("run", "flow", "--tasks", '[{"name": "far_fail"}]', "--json"),
    ("db", "purge", "--older-than", "1d"),
    ("db", "purge", "--older-than", "0s", "--tag", "eu", "--dry-run"),
    ("db", "purge", "--older-than", "0s", "--dry-run", "--json"),
    ("db", "purge", "--older-than", "0s"),
    ("db", "checkpoint"),
    ("db", "vacuum"),
    ("db", "vacuum", "--json"),
    ("db", "backup", "copy.duckdb"),
    ("db", "backup", "nowhere/copy.duckdb"),
    ("db", "export", "all.jsonl"),
    ("db", "export", "again.jsonl.gz", "--json"),
    ("schedules", "list"),
    ("schedules", "list", "--json"),
    ("schedules", "next", "yearly"),
    ("schedules", "update", "yearly", "--cron", "@monthly", "--overlap", "queue"),
    ("schedules", "pause", "yearly"),
    ("schedules", "resume", "yearly", "--json"),
    ("schedules", "show", "yearly"),
    ("schedules", "show", "nothing"),
    ("run", "flow", "far_say", "--background", "--json"),
    ("schedules", "trigger", "yearly"),
    ("schedules", "delete", "yearly"),
)
# The other commands. None of them is done by another process.
NO_DATABASE = {"completion", "man", "validate", "version", "login", "logout", "whoami"}
OPENS_DATABASE = {"db migrate", "db import", "doctor", "serve", "worker"}
OTHERS = {
    "db discard-journal": "for a database that cannot be opened: test_journal_command.py of the command line",
    "executors list": "what is installed here, or at the server",
    "executors search": "what can be installed here",
    "generate task-tree": "needs a model: test_commands_generate.py",
    "schedules create": "notes whether a worker starts what is due",
    "mcp serve": "speaks a protocol, not text: test_mcp_stdio.py",
    "ui": "serves the page until it is ended: test_ui_command.py of the server",
    "torture": "has a database for itself: faults/test_torture.py",
    "workers": "shows the process that holds the database",
}
MASKS = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?"), "TIME"),
    (re.compile(r"\b\d\d:\d\d:\d\d(\.\d+)?"), "TIME"),
    (re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b[0-9a-f]{8}\b"), "ID"),
    (re.compile(r"\b\d+(\.\d+)? ?(ms|s)\b"), "SECONDS"),
    (re.compile(r'\d+ (event page|log page|record)s?|"(events|log|record)": \d+'), "ROWS"),
    (
        re.compile(
            r'(?<=_bytes": )\d+|(?<=size_bytes_before": )\d+|(?<=size_bytes_after": )\d+|[\d,]+ bytes'
        ),
        "BYTES",
    ),
)

# Runs commands one after the other in one process: a process for each would import everything each time.
DRIVER = """
import json, os, sys, tempfile
from apflow.cli import main

def captured(command):
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as notes:
        kept = [os.dup(1), os.dup(2)]
        os.dup2(out.fileno(), 1), os.dup2(notes.fileno(), 2)
        try:
            code = main(command)
            sys.stdout.flush(), sys.stderr.flush()
        finally:
            for stream, copy in enumerate(kept, 1):
                os.dup2(copy, stream), os.close(copy)
        out.seek(0), notes.seek(0)
        return int(code), out.read().decode(), notes.read().decode()

print(json.dumps([captured(each) for each in json.load(sys.stdin)]))
"""
Outcome = tuple[int, str, str]
Run = Callable[[Sequence[Sequence[str]]], list[Outcome]]


class Place:
    """A folder with a database, in which an ended tree is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.database = self.folder / "tasks.duckdb"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("APFLOW_")}
        self.environment = kept | {
            "APFLOW_DATABASE_URL": f"duckdb:///{self.database}",
            "APFLOW_BACKGROUND_DAEMON": "false",
            "APFLOW_IMPORT": "peers.farwork",
            "PYTHONPATH": str(HERE),
        }
        (self.folder / "tree.json").write_text(json.dumps(PENDING))
        for code, _, notes in self([("run", "flow", "--tasks", json.dumps(TREE)), YEARLY]):
            assert code == 0, notes
        shutil.copy(self.database, self.folder / "kept.duckdb")

    def __call__(self, commands: Sequence[Sequence[str]]) -> list[Outcome]:
        done = subprocess.run(
            [sys.executable, "-c", DRIVER], cwd=self.folder, env=self.environment, input=json.dumps(commands),
            capture_output=True, text=True, timeout=500, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [(code, out, notes) for code, out, notes in json.loads(done.stdout)]

    @contextmanager
    def direct(self) -> Generator[Run]:
        """Have commands do their work themselves."""
        yield self

    @contextmanager
    def socket(self) -> Generator[Run]:
        """Have a worker that holds the database do it."""
        with (self.folder / "worker.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "apflow.cli", "worker"],
                cwd=self.folder,
                env=self.environment,
                stderr=log,
            )
        try:
            wait_for(lambda: process.poll() is not None or find_server(self.database), 60)
            yield self
            found = find_server(self.database)
            assert found is not None
            assert found.pid == process.pid
        finally:
            process.terminate()
            process.wait(60)

    @contextmanager
    def server(self) -> Generator[Run]:
        """Have a server do it, which commands name with `--server`."""
        url = self.environment["APFLOW_DATABASE_URL"]
        with apflow_server(self.folder, database=url) as server:

            def run(commands: Sequence[Sequence[str]]) -> list[Outcome]:
                found = self([(*each, "--server", server.url) for each in commands])
                return [
                    (code, out, notes.replace(f"the server {server.url}", url)) for code, out, notes in found
                ]

            yield run
            assert server.end() == 0

    def outcomes(self, way: Callable[[], AbstractContextManager[Run]]) -> list[Outcome]:
        """Run the suite on the database as it was at first."""
        before = {*self.folder.iterdir()}
        shutil.copy(self.folder / "kept.duckdb", self.database)
        with way() as run:
            found = [masked(each) for each in run(SUITE)]
        for each in {*self.folder.iterdir()} - before:
            each.unlink()
        return found


def masked(outcome: Outcome) -> Outcome:
    code, out, notes = outcome
    for pattern, placeholder in MASKS:
        out, notes = pattern.sub(placeholder, out), pattern.sub(placeholder, notes)
    return code, out, notes


def leaves(command: click.Command, *path: str) -> Iterator[str]:
    """Yield the commands that are not groups and not hidden."""
    if not isinstance(command, click.Group):
        yield " ".join(path)
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        if not below.hidden:
            yield from leaves(below, *path, name)


def test_every_command_is_in_the_suite_or_there_is_a_reason_why_not():
    known = NO_DATABASE | OPENS_DATABASE | OTHERS.keys()
    left = {
        each
        for each in leaves(program)
        if each not in known and not each.startswith(("config ", "daemon ", "new "))
    }
    ran = {each for each in left for command in SUITE if " ".join(command).startswith(each)}
    assert left - ran == set()


def test_commands_print_the_same_three_ways(tmp_path: Path):
    place = Place(tmp_path)
    direct = place.outcomes(place.direct)
    assert {code for code, _, _ in direct} >= {0, 1, 2, 3, 4}
    for way in (place.socket, place.server):
        for command, expected, found in zip(SUITE, direct, place.outcomes(way), strict=True):
            assert found == expected, (way.__name__, command)
