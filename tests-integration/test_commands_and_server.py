"""The command line, done by a server and done here: it prints the same, and ends with the same code."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from peers.apflowserver import apflow_server, wait_for
from peers.shell import Shell

from apflow.cli.errors.failure import describe, exit_code_of
from apflow.client import Client, RemoteService
from apflow.core import create_session
from apflow.core.errors import ApflowError
from apflow.core.service.task_service import TaskService
from apflow.core.settings import reset_settings

TREE = [
    {"id": "report", "name": "report"},
    {"id": "says", "name": "far_say", "parent_id": "report", "inputs": {"text": "hello"}},
    {"id": "fails", "name": "far_fail", "parent_id": "report", "dependencies": ["says"]},
    {
        "id": "goes-on",
        "name": "far_say",
        "parent_id": "report",
        "dependencies": [{"id": "fails", "required": False}],
    },
]
READS = (
    ("tasks", "list", "--created-after", "2026-01-01", "--json"),
    ("tasks", "list", "--all", "--status", "completed", "--order", "name", "--limit", "2"),
    ("tasks", "list", "--since", "1d", "--sort", "-completed_at", "--all", "-o", "id"),
    ("tasks", "list", "--since", "yesterday"),
    ("tasks", "count", "--id-prefix", "f", "--since", "1d"),
    ("ps", "--all", "-o", "wide"),
    ("tasks", "running", "-o", "id"),
    ("tasks", "tree", "fails", "--status", "failed", "--depth", "1"),
    ("tasks", "get", "fails"),
    ("tasks", "get", "nothing-of-the-kind"),
    ("tasks", "status", "report", "fails"),
    ("tasks", "tree", "goes-on", "--json"),
    ("tasks", "count", "--roots"),
    ("tasks", "why", "fails"),
    ("tasks", "cancel", "report"),
    ("tasks", "delete", "report"),
    ("executors", "show", "nothing_executor"),
)
REFUSED = (
    ("tasks", "execute", "held"),
    ("tasks", "execute", "holds"),
    ("run", "flow", "far_fail", "--background", "--idempotency-key", "k"),
    ("run", "flow", "far_say", "--background", "--user-id", "ann"),
    ("tasks", "cancel", "report"),
    ("tasks", "cancel", "fails", "report", "--json"),
    ("tasks", "cancel", "nobody"),
    ("tasks", "delete", "held", "--force"),
    ("tasks", "delete", "fails", "--force"),
    ("tasks", "copy", "report", "--reset", "colour"),
    ("tasks", "copy", "report", "--mode", "custom", "--task", "holds"),
    ("tasks", "resume", "nobody"),
    ("tasks", "list", "--limit", "9999999999"),
    ("run", "flow", "--tasks", "3"),
    ("run", "flow", "--background", "--tasks", '["a"]'),
    ("run", "flow", "--tasks", '[{"name": "a", "dependencies": ["x"]}, {"name": "b"}]'),
)
HELD: list[dict[str, Any]] = [
    {"id": "held", "name": "held"},
    {"id": "holds", "name": "far_hold", "parent_id": "held"},
]
# What no command asks for, too.
CALLS: tuple[Callable[[TaskService], Awaitable[Any]], ...] = (
    lambda service: service.create(HELD, on_conflict="error"),
    lambda service: service.create({"name": "other"}, idempotency_key="k"),
    lambda service: service.create({"id": "", "name": ""}),
    lambda service: service.create([]),
    lambda service: service.execute("held"),
    lambda service: service.execute(),
    lambda service: service.submit({"name": "other"}, idempotency_key="k"),
    lambda service: service.submit({"name": "other"}, user_id="ann"),
    lambda service: service.update("holds", priority=0),
    lambda service: service.update("fails", dependencies=[]),
    lambda service: service.update("fails", dependencies=["nobody"], priority=-1),
    lambda service: service.update("fails"),
    lambda service: service.update("nobody", priority=0),
    lambda service: service.delete("held"),
    lambda service: service.delete("says"),
    lambda service: service.executor("rest"),
    lambda service: service.watch("nobody").__anext__(),
)


@pytest.fixture
def shared(tmp_path: Path, postgres_url: str) -> Iterator[Shell]:
    """A database that a server and commands have open at once: a tree has ended there, another runs."""
    limit = {"APFLOW_MAX_REQUESTED_PER_USER": "1"}
    with apflow_server(tmp_path, database=postgres_url, environment=limit) as server:
        shell = Shell(server)
        assert shell("run", "flow", "--tasks", json.dumps(TREE))[0] == 0
        held = json.dumps(HELD)
        shell.json("run", "flow", "--background", "--user-id", "ann", "--tasks", held)
        shell.json("run", "flow", "far_say", "--background", "--idempotency-key", "k")
        wait_for(lambda: shell.json("tasks", "get", "holds")["task"]["status"] == "in_progress", 30)
        yield shell
        shell.json("tasks", "cancel", "held", "--force")


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with apflow_server(tmp_path_factory.mktemp("served"), is_durable=True) as server:
        yield Shell(server)


def test_a_run_by_the_server_is_told_as_one_that_is_done_here(shell: Shell):
    tasks = json.dumps(TREE)
    there = shell("run", "flow", "--tasks", tasks, "--json")
    here = shell("run", "flow", "--tasks", tasks, "--json", is_there=False, APFLOW_DATABASE_URL="memory://")
    assert there[0] == here[0] == 0, there[2]
    outcomes = [json.loads(each[1]) for each in (there, here)]
    assert outcomes[0].keys() == outcomes[1].keys()
    for name in ("status", "progress", "root_task_id", "result", "error", "tolerated", "ids"):
        assert outcomes[0][name] == outcomes[1][name], name


def test_a_failed_run_ends_with_the_same_code(shell: Shell):
    task = json.dumps([{"name": "far_fail", "inputs": {"text": "out of paper"}}])
    code, out, _ = shell("run", "flow", "--tasks", task)
    assert code == 1
    assert "out of paper" in out


def test_a_run_is_submitted_executed_again_cancelled_and_deleted_there(shell: Shell):
    submitted = shell.json("run", "flow", "far_hold", "--background", "--idempotency-key", "k")
    root_id = submitted["root_task_id"]
    again = shell.json("run", "flow", "far_hold", "--background", "--idempotency-key", "k")
    assert again["root_task_id"] == root_id
    assert shell.json("tasks", "cancel", root_id[:10], "--force")["tasks"][0]["status"] == "cancelled"
    code, _, said = shell("tasks", "execute", root_id, "--timeout", "0.5")
    assert (code, "--timeout" in said) == (6, True)
    assert shell.json("tasks", "status", root_id)["tasks"][0]["status"] == "cancelled"
    assert shell.json("tasks", "delete", root_id, "--force")["deleted_count"] == 1


def test_an_interrupt_cancels_the_run_there(shell: Shell, tmp_path: Path):
    shell.interrupt(tmp_path, is_there=True)


def test_the_setting_names_the_server_too(shell: Shell):
    code, out, said = shell(
        "tasks", "count", is_there=False, APFLOW_API_URL=shell.server.url, APFLOW_DATABASE_URL="memory://"
    )
    assert (code, said) == (0, "")
    assert not out.rstrip().endswith(" 0")


def test_an_absent_server_is_said_to_be_absent(shell: Shell):
    code, out, said = shell("tasks", "list", "--server", "http://127.0.0.1:1", is_there=False)
    assert (code, out) == (5, "")
    assert "cannot be reached" in said
    code, _, said = shell("tasks", "list", "--server", "nowhere", is_there=False)
    assert code == 2
    assert "not a valid address" in said


def test_what_is_refused_is_told_the_same_here_and_there(shared: Shell):
    for command in REFUSED:
        there, here = shared(*command), shared(*command, is_there=False)
        assert there == here, command
        assert there[0] in (2, 3, 4), command


async def test_what_is_refused_is_the_same_error_here_and_there(
    shared: Shell, monkeypatch: pytest.MonkeyPatch
):
    for name, value in shared.server.environment.items():
        monkeypatch.setenv(name, value)
    reset_settings()
    try:
        async with create_session(shared.server.database) as db, Client(shared.server.url) as client:
            for call in CALLS:
                here = await raised(call(TaskService(db)))
                there = await raised(call(RemoteService(client)))
                assert isinstance(there, type(here))
                assert describe(there) == describe(here)
                assert exit_code_of(there) == exit_code_of(here)
                assert vars(here).items() <= vars(there).items()
    finally:
        monkeypatch.undo()
        reset_settings()


async def raised(call: Awaitable[Any]) -> ApflowError:
    """Return what a call ends with, which is an error."""
    with pytest.raises(ApflowError) as caught:
        await call
    return caught.value


def test_every_reading_command_prints_the_same_here_and_there(shell: Shell):
    """Last, because it ends the server: only one process may have the database open."""
    there = [shell(*each) for each in READS]
    assert shell.server.end() == 0
    here = [shell(*each, is_there=False) for each in READS]
    places = {f"the server {shell.server.url}", shell.server.database}
    for command, actual, expected in zip(READS, there, here, strict=True):
        assert mask_places(actual, places) == mask_places(expected, places), command


def mask_places(outcome: tuple[int, str, str], places: Collection[str]) -> tuple[int, str, str]:
    """Return the outcome of a command, with PLACE for the database or the server in its notes."""
    code, output, notes = outcome
    for place in places:
        notes = notes.replace(place, "PLACE")
    return code, output, notes
