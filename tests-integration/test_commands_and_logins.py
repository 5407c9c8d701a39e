"""`apflow login`, `logout` and `whoami` with a server that requires tokens, and completion through it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from peers.apflowserver import ApflowServer, apflow_server
from peers.shell import Shell

SECRET = "a secret of tests that is long enough for every algorithm with a secret"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApflowServer]:
    environment = {"APFLOW_JWT_SECRET": SECRET}
    folder = tmp_path_factory.mktemp("login")
    with apflow_server(folder, is_durable=True, environment=environment) as started:
        yield started


@pytest.fixture
def shell(server: ApflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return Shell(server)


def bearer(secret: str = SECRET, **claims: Any) -> str:
    given = {"sub": "ann", "exp": time.time() + 600, "roles": ["ops"], **claims}
    return jwt.encode(given, secret, algorithm="HS256")


def run(shell: Shell, *arguments: str, stdin: str = "", **more: str) -> tuple[int, str, str]:
    """Run a command that gets text on its standard input, and no token from the settings."""
    done = subprocess.run(
        shell.command(arguments, is_there=False),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=shell.server.folder,
        env=shell.variables | {"APFLOW_JWT_SECRET": ""} | more,
    )
    return done.returncode, done.stdout, done.stderr


def tokens_file(home: Path) -> Path:
    return home / ".config" / "apflow" / "tokens.json"


def test_a_login_keeps_a_token_that_commands_use(shell: Shell, tmp_path: Path):
    url = shell.server.url
    code, out, said = run(shell, "tasks", "list", "--server", url)
    assert (code, out) == (4, "")
    assert "APFLOW_API_TOKEN" in said
    assert "apflow login URL" in said

    token = bearer()
    code, out, said = run(shell, "login", f"{url}/", stdin=f"{token}\n")
    assert (code, said) == (0, "")
    assert out.startswith(f"Logged in to {url} as ann.")
    assert token not in out
    file = tokens_file(tmp_path)
    assert json.loads(file.read_text()) == {url: token}
    assert file.stat().st_mode & 0o777 == 0o600

    assert run(shell, "tasks", "list", "--server", url)[0] == 0
    assert run(shell, "tasks", "list")[0] == 0  # the server that holds the database of the settings
    code, out, _ = run(shell, "whoami", "--server", url, "--json")
    assert code == 0
    assert json.loads(out) == {
        "schema_version": 1,
        "server": url,
        "token_from": str(file),
        "user_id": "ann",
        "roles": ["ops"],
        "is_admin": False,
    }

    assert run(shell, "logout")[:2] == (0, f"Logged out of {url}: its token is removed.\n")
    assert not file.exists()
    assert run(shell, "tasks", "list", "--server", url)[0] == 4
    assert run(shell, "logout", url)[0] == 3


def test_the_token_of_the_settings_takes_precedence(shell: Shell):
    url = shell.server.url
    assert run(shell, "login", url, stdin=bearer())[0] == 0
    more = {"APFLOW_API_TOKEN": bearer(sub="bob", role="admin")}
    code, out, _ = run(shell, "whoami", "--server", url, "--json", **more)
    found = json.loads(out)
    assert (code, found["user_id"], found["is_admin"]) == (0, "bob", True)
    assert found["token_from"] == "APFLOW_API_TOKEN"
    code, _, said = run(shell, "login", url, stdin=bearer(), **more)
    assert code == 0
    assert "takes precedence" in said


@pytest.mark.parametrize(
    ("stdin", "code", "expected"),
    [
        (bearer(SECRET[::-1]), 4, "The token is refused"),
        ("", 2, "There is no token"),
        ("two words", 2, "The token cannot be sent"),
        ("x" * 20_000, 2, "at most 16384 characters"),
    ],
    ids=["wrong", "none", "words", "long"],
)
def test_a_token_that_the_server_does_not_accept_is_not_kept(
    shell: Shell, tmp_path: Path, stdin: str, code: int, expected: str
):
    found, out, said = run(shell, "login", shell.server.url, stdin=stdin)
    assert (found, out) == (code, "")
    assert expected in said
    assert not tokens_file(tmp_path).exists()


def test_a_token_is_asked_for_on_a_terminal_and_not_shown(shell: Shell, tmp_path: Path):
    token = bearer()
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        shell.command(("login", shell.server.url), is_there=False),
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
        cwd=shell.server.folder,
        env=shell.variables | {"APFLOW_JWT_SECRET": ""},
    )
    os.close(follower)
    shown = b""
    while b"Token for " not in shown or not shown.rstrip().endswith(b":"):
        shown += os.read(leader, 4096)
    os.write(leader, f"{token}\n".encode())
    while b"Logged in to" not in shown:
        shown += os.read(leader, 4096)
    assert process.wait(30) == 0
    os.close(leader)
    assert token.encode() not in shown
    assert json.loads(tokens_file(tmp_path).read_text()) == {shell.server.url: token}


def test_a_file_of_tokens_that_others_can_read_is_not_used(shell: Shell, tmp_path: Path):
    assert run(shell, "login", shell.server.url, stdin=bearer())[0] == 0
    tokens_file(tmp_path).chmod(0o644)
    code, _, said = run(shell, "tasks", "list", "--server", shell.server.url)
    assert code == 2
    assert f"chmod 600 {tokens_file(tmp_path)}" in said


def test_ids_are_completed_through_the_server(shell: Shell):
    url, token = shell.server.url, bearer(role="admin")
    tasks = json.dumps(
        [{"id": "alpha-1", "name": "First"}, {"id": "a-child", "name": "c", "parent_id": "alpha-1"}]
    )
    assert run(shell, "tasks", "create", "--tasks", tasks, "--server", url, APFLOW_API_TOKEN=token)[0] == 0
    assert run(shell, "login", url, stdin=token)[0] == 0
    for words in (
        "apflow tasks get alp",
        f"apflow tasks get --server {url} alp",
        "apflow tasks status x alp",
    ):
        where = {} if "--server" in words else {"APFLOW_API_URL": url}
        asking = {
            "_APFLOW_COMPLETE": "zsh_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split()) - 1),
            **where,
        }
        assert run(shell, **asking) == (0, "plain\nalpha-1\nFirst (pending)\n", ""), words
    # Without the name of a server, the one that holds the database is asked.
    asking = {"_APFLOW_COMPLETE": "bash_complete", "COMP_WORDS": "apflow tasks get a-c", "COMP_CWORD": "3"}
    assert run(shell, **asking) == (0, "plain,a-child\n", "")


def test_a_server_without_authentication_needs_no_login(tmp_path: Path):
    with apflow_server(tmp_path, is_durable=True) as server:
        shell = Shell(server)
        code, out, _ = run(shell, "login", server.url, stdin="anything", HOME=str(tmp_path))
        assert (code, out) == (0, f"{server.url} accepts requests without a token, so none is stored.\n")
        assert not tokens_file(tmp_path).exists()
        code, out, _ = run(shell, "whoami", "--server", server.url, "--json")
        found = json.loads(out)
        assert (code, found["user_id"], found["is_admin"], found["token_from"]) == (0, None, True, None)
