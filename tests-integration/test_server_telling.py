"""A server of a DuckDB file announces its address to commands."""

from __future__ import annotations

import json
import signal
import stat
from pathlib import Path

import httpx
import pytest
from serving import SECRET, serve_process

from apflow.core.process.server_file import API, find_server, server_file_of


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path.resolve() / "served.duckdb"


def test_it_tells_where_it_is_while_it_serves(database: Path):
    with serve_process(database.parent) as process:
        path = server_file_of(database)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        written = json.loads(path.read_text())
        assert (written["url"], written["pid"], written["api"]) == (process.url, process.popen.pid, API)
        assert written["needs_token"] is False
        assert find_server(database) is not None
        assert process.end() == 0
    assert not server_file_of(database).exists()
    assert "Traceback" not in process.log.read_text()


def test_what_one_left_that_was_killed_the_next_one_replaces(database: Path):
    with serve_process(database.parent) as process:
        process.end(signal.SIGKILL)
    assert server_file_of(database).exists()
    assert find_server(database) is None
    with serve_process(database.parent) as process:
        holder = find_server(database)
        assert holder is not None
        assert holder.url == process.url
        assert process.end() == 0
    assert not server_file_of(database).exists()


def test_one_that_listens_everywhere_is_told_at_a_loopback_address_and_that_it_asks_for_a_token(
    database: Path,
):
    environment = {"APFLOW_JWT_SECRET": SECRET}
    with serve_process(database.parent, "--host", "0.0.0.0", environment=environment) as process:
        holder = find_server(database)
        assert holder is not None
        assert (holder.url, holder.needs_token) == (process.url, True)


def test_one_that_cannot_tell_serves_all_the_same(database: Path):
    server_file_of(database).mkdir()
    with serve_process(database.parent) as process:
        assert httpx.get(f"{process.url}/ready").status_code == 200
        assert "Commands do not find this server" in process.log.read_text()
        assert process.end() == 0
    assert [path.name for path in database.parent.glob("*.server*")] == [server_file_of(database).name]


def test_a_second_server_is_refused_and_changes_nothing(database: Path):
    with serve_process(database.parent) as process:
        with (
            pytest.raises(AssertionError, match=f"the server at {process.url}"),
            serve_process(database.parent),
        ):
            pass
        holder = find_server(database)
        assert holder is not None
        assert holder.pid == process.popen.pid
