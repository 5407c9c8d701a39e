"""Who is let in, and which hosts are believed."""

import logging
import os
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from peers.sshd import PASSPHRASE, TYPES, Sshd, a_system_user, an_sshd

from apflow.core.errors import FileRefusedError
from apflow.executor.ssh import (
    SshExecutor,
    SshHostKeyChangedError,
    SshHostKeyUnknownError,
    SshInputError,
    SshLoginError,
)


def names(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


def ran(*command: str) -> str:
    """Run a program and return what it says."""
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


async def log_in(server: Sshd, **inputs: Any) -> str:
    """Log in only with the given credentials; return the user name on the server."""
    given: dict[str, Any] = {**server.inputs, "command": ["id", "-un"], **inputs}
    if {"key", "password"} & inputs.keys():
        del given["key_file"]
    return str((await SshExecutor().execute(given))["stdout"].strip())


@pytest.mark.parametrize("kind", TYPES)
async def test_each_type_of_key_logs_in_with_and_without_a_passphrase(server: Sshd, kind: str):
    assert await log_in(server, key_file=str(server.keys[kind])) == server.username
    assert await log_in(server, key=server.keys[kind].read_text()) == server.username
    locked = server.locked[kind]
    assert await log_in(server, key_file=str(locked), passphrase=PASSPHRASE) == server.username
    assert await log_in(server, key=locked.read_text(), passphrase=PASSPHRASE) == server.username
    assert await log_in(server, key=server.keys[kind].read_text(), passphrase="unneeded") == server.username
    for text in (locked.read_text().strip(), locked.read_text().replace("\n", "\r\n")):
        assert await log_in(server, key=text, passphrase=PASSPHRASE) == server.username
    with pytest.raises(SshInputError, match="Give its passphrase"):
        await log_in(server, key_file=str(locked))
    with pytest.raises(SshInputError, match="with this passphrase"):
        await log_in(server, key=locked.read_text(), passphrase="wrong")


@pytest.mark.parametrize("encoding", ["PEM", "PKCS8"])
async def test_older_and_other_encodings_of_a_key_log_in(server: Sshd, tmp_path: Path, encoding: str):
    for kind, passphrase in (("rsa", ""), ("ecdsa", ""), ("rsa", "pass phrase")):
        path = tmp_path / f"{kind}{len(passphrase)}"
        shutil.copy(server.keys[kind], path)
        ran("ssh-keygen", "-q", "-p", "-m", encoding, "-P", "", "-N", passphrase, "-f", str(path))
        more = {"passphrase": passphrase} if passphrase else {}
        assert await log_in(server, key_file=str(path), **more) == server.username


async def test_only_sha2_signatures_are_made_with_an_rsa_key(server: Sshd):
    with an_sshd("PubkeyAcceptedAlgorithms ssh-rsa") as old, pytest.raises(SshLoginError):
        await log_in(old, key_file=str(old.keys["rsa"]))


async def test_a_key_that_the_server_does_not_know_is_a_wrong_credential(server: Sshd, tmp_path: Path):
    ran("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key"))
    with pytest.raises(SshLoginError, match=f"{server.username!r} in by key"):
        await log_in(server, key_file=str(tmp_path / "key"))


async def test_passwords_log_in_and_wrong_ones_do_not(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    wrong = secrets.token_urlsafe(12)
    with a_system_user() as (name, password), an_sshd(username=name) as server:
        assert await log_in(server, password=password) == name
        with pytest.raises(SshLoginError, match="by password") as refused:
            await log_in(server, password=wrong)
        text = caplog.text + str(refused.value) + repr(refused.value)
        assert (password in text, wrong in text) == (False, False)
    assert "paramiko" in caplog.text  # it did log


async def test_a_server_that_wants_both_gets_key_and_password():
    with (
        a_system_user() as (name, password),
        an_sshd("AuthenticationMethods publickey,password", username=name) as server,
    ):
        key = server.keys["ed25519"].read_text()
        assert await log_in(server, key=key, password=password) == name
        with pytest.raises(SshLoginError, match="It takes: password"):
            await log_in(server, key=key)


async def test_a_server_that_takes_no_passwords_says_so(server: Sshd):
    settings = ("PasswordAuthentication no", "KbdInteractiveAuthentication no")
    with an_sshd(*settings) as strict, pytest.raises(SshLoginError, match="It takes: publickey"):
        await log_in(strict, password="any")


async def test_neither_an_agent_nor_the_keys_of_the_user_are_used(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / ".ssh").mkdir()
    shutil.copy(server.keys["ed25519"], tmp_path / ".ssh" / "id_ed25519")
    (tmp_path / ".ssh" / "config").write_text(f"Host *\n  IdentityFile {server.keys['ed25519']}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    agent = ran("ssh-agent", "-s")
    variables = dict(line.split(";")[0].split("=", 1) for line in agent.splitlines()[:2])
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    try:
        ran("ssh-add", "-q", str(server.keys["ed25519"]))
        with pytest.raises(SshLoginError):
            await log_in(server, password="wrong")
    finally:
        ran("ssh-agent", "-k")


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ({}, "No credential"),
        ({"key": "x", "key_file": "/x"}, "Give one"),
        ({"password": "x", "passphrase": "x"}, "no key"),
        ({"key": "secret words"}, "not a private key"),
        ({"password": "secret words\udc80"}, "password contains"),
        ({"key": "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END"}, "is damaged"),
        ({"key": "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----"}, "is damaged"),
        ({"key_file": "/no/such/key"}, "No such file"),
        ({"key_file": "/dev/null"}, "the kernel makes"),
        ({"key_file": "/"}, "not a regular file"),
        ({"key_file": "a\0b"}, "null"),
        ({"password": "x", "known_hosts": "/no/such/file"}, "No such file"),
        ({"password": "x", "known_hosts": "/dev/null"}, "the kernel makes"),
        ({"password": "x", "known_hosts": "two\nlines"}, "No line"),
        (
            {"password": "x", "known_hosts": "/tmp/authorized_keys", "host_key_policy": "accept-new"},
            "known_ho",
        ),
    ],
)
async def test_credentials_and_files_that_cannot_be_used_are_refused(inputs: dict[str, Any], reason: str):
    with pytest.raises((SshInputError, FileRefusedError), match=reason) as refused:
        await SshExecutor().execute({"host": "192.0.2.1", "username": "u", "command": "true", **inputs})
    assert "c2VjcmV0" not in str(refused.value)
    assert "secret words" not in str(refused.value)


async def test_a_key_file_must_be_its_users_alone_and_where_it_says(server: Sshd, tmp_path: Path):
    folder = tmp_path / "keys"
    folder.mkdir()
    path = folder / "key"
    shutil.copy(server.keys["ed25519"], path)
    for mode in (0o640, 0o604, 0o620, 0o601):
        path.chmod(mode)
        with pytest.raises(SshInputError, match=f"mode {mode:04o}"):
            await log_in(server, key_file=str(path))
    path.chmod(0o400)
    (folder / "current").symlink_to("key")  # as mounted secrets have it
    assert await log_in(server, key_file=str(folder / "current")) == server.username
    (tmp_path / "away").symlink_to(server.keys["ed25519"])
    with pytest.raises(SshInputError, match="out of its folder"):
        await log_in(server, key_file=str(tmp_path / "away"))
    if os.geteuid() == 0:
        os.chown(path, 65534, -1)
        with pytest.raises(SshInputError, match="another user"):
            await log_in(server, key_file=str(path))


async def test_an_unknown_host_is_refused_with_its_fingerprint_and_the_line_to_add(
    server: Sshd, tmp_path: Path
):
    fingerprint = ran("ssh-keygen", "-lf", str(server.folder / "host_ed25519.pub")).split()[1]
    path = tmp_path / "known_hosts"
    path.touch()
    with pytest.raises(SshHostKeyUnknownError, match="accept-new") as refused:
        await log_in(server, known_hosts=str(path))
    assert refused.value.fingerprint == fingerprint
    assert fingerprint in str(refused.value)
    assert path.read_text() == ""
    assert await log_in(server, known_hosts=refused.value.line) == server.username


async def test_without_known_hosts_those_of_the_user_are_read(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    given = {k: v for k, v in server.inputs.items() if k != "known_hosts"} | {"command": ["true"]}
    with pytest.raises(SshHostKeyUnknownError, match=r"~/\.ssh/known_hosts"):
        await SshExecutor().execute(given)
    assert (await SshExecutor().execute(given | {"host_key_policy": "accept-new"}))["success"]
    assert names(tmp_path) == []  # no known_hosts file was named
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "known_hosts").write_text(server.known_hosts)
    assert (await SshExecutor().execute(given))["success"]


async def test_a_new_host_is_added_once_to_the_file_that_was_named(server: Sshd, tmp_path: Path):
    path = tmp_path / "known_hosts"
    for before in (None, "# mine", "other.example ssh-ed25519 AAAA\n"):
        if before is not None:
            path.write_text(before)
        for _ in range(2):
            await log_in(server, known_hosts=str(path), host_key_policy="accept-new")
        lines = path.read_text().splitlines()
        assert lines == [
            *([before.strip()] if before else []),
            f"[127.0.0.1]:{server.port} {server.host_key('ed25519')}",
        ]
        assert before or path.stat().st_mode & 0o777 == 0o600
        path.unlink()
    (tmp_path / "known_hosts_link").symlink_to(tmp_path / "target")
    with pytest.raises(SshInputError, match="cannot be added"):
        await log_in(server, known_hosts=str(tmp_path / "known_hosts_link"), host_key_policy="accept-new")
    assert not (tmp_path / "target").exists()


async def test_a_changed_key_is_refused_under_every_policy(server: Sshd, tmp_path: Path):
    name, path = f"[127.0.0.1]:{server.port}", tmp_path / "known_hosts"
    ran("ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(tmp_path / "k"))
    others = [
        f"{name} {(server.folder / 'user_ed25519.pub').read_text()}",  # of the same type
        f"{name} {(tmp_path / 'k.pub').read_text()}",
        f"{server.known_hosts}@revoked {name} {server.host_key('ed25519')}\n",
    ]
    for text in others:
        path.write_text(text)
        for policy in ("strict", "accept-new"):
            with pytest.raises(SshHostKeyChangedError, match="No policy accepts"):
                await log_in(server, known_hosts=str(path), host_key_policy=policy)
        assert path.read_text() == text


async def test_a_known_key_of_another_type_than_the_best_is_asked_for(server: Sshd):
    for kind in TYPES:
        line = f"[127.0.0.1]:{server.port} {server.host_key(kind)}"
        assert await log_in(server, known_hosts=line) == server.username
    with an_sshd(hosts=["rsa"]) as only:
        assert await log_in(only) == only.username


async def test_no_credential_is_sent_to_a_host_that_is_not_believed(server: Sshd, tmp_path: Path):
    wrong = f"[127.0.0.1]:{server.port} {(server.folder / 'user_ed25519.pub').read_text()}"
    before = server.log().count("Failed password")
    with pytest.raises(SshHostKeyChangedError):
        await log_in(server, password="secret", known_hosts=wrong)
    assert server.log().count("Failed password") == before


async def test_keys_and_passphrases_stay_out_of_errors_and_logs(
    server: Sshd, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("paramiko").setLevel(logging.DEBUG)
    key, env = server.locked["rsa"].read_text(), {"TOKEN": secrets.token_hex(16)}
    await log_in(server, key=key, passphrase=PASSPHRASE, env=env)
    with pytest.raises(SshInputError) as refused:
        await log_in(server, key=key, passphrase="another secret")
    said = caplog.text + repr(refused.value) + repr(refused.value.__cause__)
    kept = [PASSPHRASE, "another secret", env["TOKEN"], *key.splitlines()[1:-1]]
    assert [each for each in kept if each in said] == []
