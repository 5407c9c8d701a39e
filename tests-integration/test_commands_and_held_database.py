"""A database that a server holds: commands find the server, and send their requests to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from peers.apflowserver import ApflowServer, apflow_server
from peers.ports import free_socket, port_of
from peers.shell import Shell
from peers.strangehttp import hang, strange_peer

from apflow.core.process.server_file import describe_this_server, published, server_file_of

SECRET = "a secret of tests that is long enough for every algorithm with a secret"
ALONE = {"APFLOW_IMPORT": ""}  # so that a command could not run the executors of tests by itself


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with apflow_server(tmp_path_factory.mktemp("held"), is_durable=True) as server:
        yield Shell(server)


def database_of(server: ApflowServer) -> Path:
    """The file of a server's database."""
    return Path(server.database.removeprefix("duckdb:///"))


def bearer(secret: str) -> str:
    """A token of an admin."""
    claims = {"sub": "ann", "exp": time.time() + 600, "role": "admin"}
    return jwt.encode(claims, secret, algorithm="HS256")


def test_a_command_finds_the_server_and_prints_what_it_prints_where_that_is_named(shell: Shell):
    code, out, said = shell("run", "flow", "far_say", "--inputs", '{"text": "hi"}', is_there=False, **ALONE)
    assert (code, said) == (0, "")
    assert '{"said": "hi"}' in out
    for command in (
        ("tasks", "list", "--json"),
        ("tasks", "count"),
        ("tasks", "get", "nobody"),
        ("run", "flow", "--tasks", "[]"),
        ("tasks", "list", "--wait-lock", "5"),
    ):
        assert shell(*command, is_there=False) == shell(*command), command


def test_an_interrupt_cancels_the_run_there(shell: Shell, tmp_path: Path):
    shell.interrupt(tmp_path, is_there=False, **ALONE)


def test_an_unknown_executor_is_reported_at_once_with_its_name(shell: Shell):
    """Also where the command has no executors itself, and where only one task of a tree names it."""
    task = {"id": "t-nope", "name": "t", "schemas": {"method": "nope"}}
    said = {"id": "t-said", "name": "far_say", "inputs": {"text": "hi"}, "parent_id": "t-root"}
    tree = [{"id": "t-root", "name": "root"}, said, {**task, "parent_id": "t-root"}]
    for given in (("nope",), ("--tasks", json.dumps([task])), ("--tasks", json.dumps(tree))):
        code, out, err = shell("run", "flow", *given, is_there=False, **ALONE)
        assert code in (1, 3), given
        assert "nope" in out + err
        assert "Traceback" not in err
    counts = json.loads(shell("tasks", "count", "--json", is_there=False)[1])
    assert counts.get("in_progress", 0) == counts.get("pending", 0) == 0
    code, _, err = shell("tasks", "execute", "no-such-task", is_there=False, **ALONE)
    assert (code, "no-such-task" in err) == (3, True)


def test_a_server_that_is_named_comes_first(shell: Shell):
    for where in (("--server", "http://127.0.0.1:1"), ()):
        setting = {} if where else {"APFLOW_API_URL": "http://127.0.0.1:1"}
        code, _, said = shell("tasks", "count", *where, is_there=False, **setting)
        assert code == 5
        assert "http://127.0.0.1:1 cannot be reached" in said


def test_another_database_is_another_matter(shell: Shell, tmp_path: Path):
    other = tmp_path.resolve() / "other.duckdb"
    server_file_of(other).write_bytes(
        server_file_of(database_of(shell.server)).read_bytes()
    )  # as a copied folder has it
    server_file_of(other).chmod(0o600)
    database = {"APFLOW_DATABASE_URL": f"duckdb:///{other}"}
    assert shell("run", "flow", "far_say", is_there=False, **database)[0] == 0
    code, out, _ = shell("tasks", "count", "--json", is_there=False, **database)
    assert (code, json.loads(out)["total"]) == (0, 1)


def test_what_opens_the_database_itself_is_told_who_has_it(shell: Shell):
    for command in (("db", "migrate"), ("worker",)):
        code, out, said = shell(*command, is_there=False)
        assert (code, out) == (5, "")
        assert f"the server at {shell.server.url}" in said


def test_a_proxy_of_the_environment_is_not_asked(shell: Shell):
    with strange_peer(hang) as proxy:
        proxies = {"HTTP_PROXY": proxy.url, "http_proxy": proxy.url, "ALL_PROXY": proxy.url}
        assert shell("tasks", "count", is_there=False, **proxies)[0] == 0
        assert proxy.requests == []


def test_a_file_that_others_may_write_leads_nowhere(shell: Shell):
    path = server_file_of(database_of(shell.server))
    kept = path.read_text()
    token = {"APFLOW_API_TOKEN": "of-mine"}
    with strange_peer(hang) as thief:
        for mode, url in ((0o666, thief.url), (0o600, thief.url.replace("127.0.0.1", "localhost"))):
            path.write_text(json.dumps(json.loads(kept) | {"url": url, "needs_token": True}))
            path.chmod(mode)
            code, _, said = shell("tasks", "count", is_there=False, **token)
            assert (code, thief.requests) == (5, [])
            assert "is in use by process" in said
    path.write_text(kept)
    path.chmod(0o600)
    assert shell("tasks", "count", is_there=False)[0] == 0


def test_a_server_that_asks_for_a_token_is_asked_by_those_who_have_one(tmp_path: Path):
    environment = {"APFLOW_JWT_SECRET": SECRET}
    with apflow_server(tmp_path, is_durable=True, environment=environment) as server:
        shell = Shell(server)
        without = {"APFLOW_JWT_SECRET": ""}
        code, out, said = shell("tasks", "count", is_there=False, **without)
        assert (code, out) == (5, "")
        assert f"--server {server.url}" in said
        assert "APFLOW_API_TOKEN" in said
        token = {"APFLOW_API_TOKEN": bearer(SECRET)}
        assert shell("run", "flow", "far_say", is_there=False, **without, **ALONE, **token)[0] == 0
        wrong = {"APFLOW_API_TOKEN": bearer(SECRET[::-1])}
        code, _, said = shell("tasks", "count", is_there=False, **without, **wrong)
        assert code == 4
        assert "token is refused" in said


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "told"])
def test_without_the_server_the_command_does_its_work_itself_again(tmp_path: Path, number: int):
    with apflow_server(tmp_path, is_durable=True) as server:
        shell = Shell(server)
        before = shell("run", "flow", "far_say", is_there=False, **ALONE)
        assert before[0] == 0
        assert server.process is not None
        server.process.send_signal(number)
        os.waitid(os.P_PID, server.process.pid, os.WEXITED | os.WNOWAIT)  # its parent has not reaped it yet
        assert server_file_of(database_of(server)).exists() is (number == signal.SIGKILL)
        assert shell("run", "flow", "far_say", is_there=False)[0] == 0
        code, out, said = shell("tasks", "count", "--json", is_there=False)
        assert (code, json.loads(out)["total"], said) == (0, 2, "")
        assert server.process.wait(30) in (0, -number)


def test_a_waiting_command_gets_the_database_of_a_server_that_ends(tmp_path: Path):
    with apflow_server(tmp_path, is_durable=True) as server:
        shell = Shell(server)
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        code, out, said = shell("tasks", "count", "--json", "--wait-lock", "30", is_there=False)
        assert (code, json.loads(out or "{}").get("total")) == (0, 0), said


def test_a_server_that_takes_no_requests_any_more_is_not_waited_for(tmp_path: Path):
    """A running process that was announced as a server, and closed its socket."""
    database = tmp_path.resolve() / "left.duckdb"
    with free_socket() as closed:
        url = f"http://127.0.0.1:{port_of(closed)}"
        with published(describe_this_server(database, url, needs_token=False)):
            code, out, said = run_alone(database, "tasks", "count", "--json")
    assert (code, json.loads(out or "{}").get("total")) == (0, 0), said


def run_alone(database: Path, *arguments: str) -> tuple[int, str, str]:
    """Run a command on a database, without a server."""
    server = ApflowServer(database.parent, f"duckdb:///{database}", (), {}, port=0)
    return Shell(server)(*arguments, is_there=False)


def test_where_no_server_is_told_nothing_of_one_is_loaded(tmp_path: Path):
    environment: dict[str, Any] = {
        **os.environ,
        "APFLOW_DATABASE_URL": f"duckdb:///{tmp_path}/alone.duckdb",
    }
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "apflow.cli", "tasks", "count"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "apflow.core.process.server_file" in loaded
    assert loaded.isdisjoint({"apflow.client", "httpx"})
