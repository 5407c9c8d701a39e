import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apflow.core.process.server_file import (
    describe_this_server,
    find_server,
    is_loopback,
    published,
    server_file_of,
)

URL = "http://127.0.0.1:8000"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path.resolve() / "tasks.duckdb"


def write(database: Path, /, **changed: Any) -> Path:
    """Write what this process would tell of itself, with something changed."""
    with published(describe_this_server(database, URL, needs_token=False)):
        kept = json.loads(server_file_of(database).read_text())
    path = server_file_of(database)
    path.write_text(json.dumps(kept | changed))
    path.chmod(0o600)
    return path


def test_a_holder_is_found_while_it_tells_and_not_after(database: Path):
    assert find_server(database) is None
    holder = describe_this_server(database, URL, needs_token=True)
    with published(holder):
        assert find_server(database) == holder
        assert stat.S_IMODE(server_file_of(database).stat().st_mode) == 0o600
        assert [path.name for path in database.parent.iterdir()] == ["tasks.duckdb.server"]
        content = json.loads(server_file_of(database).read_text())
        assert (content["api"], content["url"], content["pid"]) == (2, URL, os.getpid())
        assert content["started"]
    assert find_server(database) is None
    assert list(database.parent.iterdir()) == []


def test_a_holder_with_a_socket_only_is_found_and_gets_the_url_of_its_server(database: Path):
    holder = describe_this_server(database, socket="/run/held.sock")
    server = describe_this_server(database, URL, needs_token=True)
    with published(holder):
        assert find_server(database) == holder
        with published(server):
            assert find_server(database) == replace(server, socket="/run/held.sock")
        assert find_server(database) == holder
    assert find_server(database) is None


@pytest.mark.parametrize("changed", [{"url": ""}, {"socket": "held.sock"}, {"socket": 1}, {"socket": None}])
def test_a_holder_without_a_usable_address_is_ignored(database: Path, changed: dict[str, Any]):
    write(database, **changed)
    assert find_server(database) is None


def test_the_next_one_replaces_what_is_left_and_the_earlier_one_leaves_it_alone(database: Path):
    write(database, pid=10**9)
    other = describe_this_server(database, "http://[::1]:9000", needs_token=False)
    with published(describe_this_server(database, URL, needs_token=False)):
        with published(other):
            pass
        with published(other):
            assert find_server(database) == other
            server_file_of(database).write_text("of another process")
        assert server_file_of(database).read_text() == "of another process"
    assert server_file_of(database).exists()


def test_what_a_process_left_that_was_killed_is_nothing(database: Path):
    program = (
        "import os, sys; from pathlib import Path; from apflow.core.process.server_file import *\n"
        f"with published(describe_this_server(Path({str(database)!r}), {URL!r}, needs_token=False)):\n"
        "    print('told', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "told\n"
        found = find_server(database)
        assert found is not None
        assert found.pid == process.pid
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert server_file_of(database).exists()
        assert find_server(database) is None  # also before its parent has waited for it
    assert find_server(database) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"pid": 10**9},
        {"pid": "1"},
        {"started": "1"},
        {"host": "another"},
        {"database": "/srv/the/one/that/was/copied.duckdb"},
        {"api": 1},
        {"api": None},
        {"needs_token": "no"},
        {"url": None},
        {"url": "http://192.0.2.1:8000"},
        {"url": "https://127.0.0.1:8000"},
        {"url": "http://127.0.0.1:8000/elsewhere"},
    ],
    ids=str,
)
def test_what_is_not_this_servers_is_nothing(database: Path, changed: dict[str, Any]):
    write(database)
    assert find_server(database) is not None
    write(database, **changed)
    assert find_server(database) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 4000, "\xff", '{"api": 1}' + " " * 10_000])
def test_an_invalid_server_file_is_ignored(database: Path, text: str):
    server_file_of(database).write_text(text, encoding="latin-1")
    assert find_server(database) is None


@pytest.mark.parametrize("mode", [0o660, 0o606, 0o622])
def test_a_file_that_others_may_write_is_nothing(database: Path, mode: int):
    path = write(database)
    path.chmod(mode)
    assert find_server(database) is None
    path.chmod(0o644)
    assert find_server(database) is not None


def test_a_file_of_another_user_is_nothing(database: Path, monkeypatch: pytest.MonkeyPatch):
    write(database)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert find_server(database) is None


def test_a_server_file_that_is_not_a_regular_file_is_ignored(database: Path):
    path = write(database)
    kept = path.rename(database.with_name("kept"))
    path.symlink_to(kept)
    assert find_server(database) is None
    path.unlink()
    path.mkdir()
    assert find_server(database) is None
    path.rmdir()
    os.mkfifo(path, 0o600)
    assert find_server(database) is None  # and opening it does not wait for a writer


def test_a_link_is_replaced_and_not_followed(database: Path):
    other = database.with_name("other")
    other.write_text("precious")
    server_file_of(database).symlink_to(other)
    with published(describe_this_server(database, URL, needs_token=False)):
        assert find_server(database) is not None
    assert other.read_text() == "precious"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (URL, True),
        ("http://127.9.9.9:1", True),
        ("http://[::1]:8000", True),
        ("http://127.0.0.1", False),
        ("http://localhost:8000", False),
        ("http://10.0.0.1:8000", False),
        ("http://127.0.0.1:8000@192.0.2.1:80", False),
        ("http://user@127.0.0.1:8000", False),
        ("http://127.0.0.1:8000?x", False),
        ("http://127.0.0.1:8000#x", False),
        ("http://127.0.0.1:port", False),
        ("http://[::1", False),
        ("http://\n127.0.0.1:8000", False),
        ("ftp://127.0.0.1:8000", False),
        ("", False),
    ],
)
def test_a_loopback_address_is_distinguished_from_all_others(url: str, expected: bool):
    assert is_loopback(url) is expected


def test_a_server_elsewhere_is_not_told(database: Path):
    with pytest.raises(ValueError, match="loopback"):
        describe_this_server(database, "http://192.0.2.1:8000", needs_token=False)
    with (
        pytest.raises(FileNotFoundError),
        published(describe_this_server(database / "x", URL, needs_token=False)),
    ):
        pass
