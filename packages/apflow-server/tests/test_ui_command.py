"""`apflow ui`: the page of a database for its owner, by an address that is valid once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from pages import INDEX, TIMEOUT, write_page
from serving import wait_for

from apflow.core.store.session import create_session
from apflow.server.auth import one_time
from apflow.server.auth.one_time import OneTimeTokens
from apflow.server.http.api_error import UnauthorizedError

# A program that has the page of a folder, in place of the one of its distribution.
PROGRAM = """
import sys
from pathlib import Path
from apflow.server.ui import files
files.STATIC = Path(sys.argv.pop(1))
from apflow.server.own_page.command import ui
from apflow.core.errors import ApflowError
try:
    ui.main(standalone_mode=False)
except ApflowError as error:
    sys.exit(f"Error: {error}")
"""
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tasks.list", "params": {}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_page(tmp_path / "static")
    return tmp_path


@contextmanager
def started(folder: Path, *arguments: str) -> Generator[subprocess.Popen[str]]:
    """Run the command in a folder, on a database of it."""
    environment = {
        **os.environ,
        "APFLOW_DATABASE_URL": f"duckdb:///{folder / 'own.duckdb'}",
        "APFLOW_JWT_SECRET": "a secret for callers from outside, of whom there are none",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder / "static"), *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def address_of(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return the URL of the server that a process prints, and the token in the address."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line, process.stderr.read() if process.stderr is not None else ""
    parts = urlsplit(line)
    assert (parts.hostname, parts.path, parts.query) == ("127.0.0.1", "/ui/", "")
    return f"http://{parts.netloc}", parts.fragment.removeprefix("token=")


def test_the_address_is_valid_once_and_the_session_is_that_of_the_owner(folder: Path):
    with started(folder, "--no-open") as process:
        url, token = address_of(process)
        bearer = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=url, timeout=TIMEOUT) as browser:
            assert browser.get("/ui/").text == INDEX
            assert browser.post("/tasks", json=LIST).status_code == 401
            assert browser.post("/tasks", json=LIST, headers=bearer).status_code == 401
            session = browser.post("/ui/session", headers=bearer).json()
            assert (session["user"], session["is_admin"], session["expires_at"]) == (None, True, None)
            header = {"X-CSRF-Token": session["csrf"]}
            assert browser.post("/tasks", json=LIST, headers=header).json()["result"] == []
            assert browser.post("/tasks", json=LIST).status_code == 403
            again = browser.post("/ui/session", headers=bearer)
            assert again.status_code == 401
            assert "apflow ui" in again.json()["error"]["message"]
            assert browser.delete("/ui/session", headers=header).status_code == 204
            assert browser.post("/tasks", json=LIST, headers=header).status_code == 401
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT) == 0


def test_a_second_command_opens_the_page_of_the_first_with_a_token_of_its_own(folder: Path):
    with started(folder, "--no-open") as first:
        url, token = address_of(first)
        wait_for(lambda: httpx.get(f"{url}/ready", timeout=TIMEOUT).status_code == 200)
        with started(folder, "--no-open") as second:
            other_url, other_token = address_of(second)
            assert second.wait(TIMEOUT) == 0
        assert other_url == url
        assert other_token != token
        for each in (token, other_token):
            headers = {"Authorization": f"Bearer {each}"}
            assert httpx.post(f"{url}/ui/session", headers=headers, timeout=TIMEOUT).status_code == 200


async def test_a_process_that_holds_the_database_and_has_no_page_is_named(folder: Path):
    async with create_session(f"duckdb:///{folder / 'own.duckdb'}") as db:
        await db.get(["any"])
        with started(folder, "--no-open") as process:
            _, message = process.communicate(timeout=TIMEOUT)
            assert process.returncode == 1
            assert f"process {os.getpid()}" in message
            assert "has no page" in message


def test_an_installation_without_the_page_says_how_to_build_it(tmp_path: Path):
    with started(tmp_path, "--no-open") as process:
        _, message = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 1
        assert "npm run build" in message
        assert not (tmp_path / "own.duckdb").exists()


async def test_a_token_expires(monkeypatch: pytest.MonkeyPatch):
    tokens = OneTimeTokens()
    monkeypatch.setattr(one_time, "VALID_SECONDS", -1.0)
    with pytest.raises(UnauthorizedError, match="expired"):
        tokens.session_token(tokens.issue())


async def test_only_the_newest_tokens_wait_to_be_used():
    tokens = OneTimeTokens()
    issued = [tokens.issue() for _ in range(one_time.MAX_ISSUED + 1)]
    with pytest.raises(UnauthorizedError):
        tokens.session_token(issued[0])
    session = tokens.session_token(issued[1])
    assert (await tokens.caller(session)).is_admin
    with pytest.raises(UnauthorizedError):
        await tokens.caller(issued[2])
    tokens.forget(session)
    with pytest.raises(UnauthorizedError):
        await tokens.caller(session)
