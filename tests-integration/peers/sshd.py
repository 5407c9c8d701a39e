"""A real OpenSSH server for tests, on a loopback port, with its own keys and configuration.

It runs as the user of the tests, and lets that user in; as root, others too. Where it is not installed, the
test is skipped, except in CI.
"""

from __future__ import annotations

import getpass
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from peers import required
from peers.ports import free_socket, port_of

TYPES = ("ed25519", "ecdsa", "rsa")
PASSPHRASE = "a passphrase, with 'quotes'"
START_SECONDS = 30.0


@dataclass(frozen=True)
class Sshd:
    """A running server. `keys` are private key files by type, `locked` the same ones under `PASSPHRASE`."""

    host: str
    port: int
    username: str
    folder: Path
    pid: int
    keys: dict[str, Path] = field(default_factory=dict)
    locked: dict[str, Path] = field(default_factory=dict)

    @property
    def known_hosts(self) -> str:
        """The lines of a known_hosts file for it."""
        return "".join(f"[{self.host}]:{self.port} {self.host_key(each)}\n" for each in TYPES)

    def host_key(self, kind: str) -> str:
        """Its own public key of a type: `type base64`."""
        return " ".join((self.folder / f"host_{kind}.pub").read_text().split()[:2])

    @property
    def inputs(self) -> dict[str, object]:
        """What ssh_executor needs to log in."""
        return {
            "host": self.host,
            "port": self.port,
            "username": self.username,
            "key_file": str(self.keys["ed25519"]),
            "known_hosts": self.known_hosts,
        }

    def commands(self, line: str) -> list[int]:
        """The processes of this machine that run this command line, regardless of their parents."""
        wanted = line.replace(" ", "\0").encode() + b"\0"
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if path.read_bytes() == wanted:
                    found.append(int(path.parent.name))
        return found

    def connections(self) -> list[int]:
        """Its processes that serve a connection, the sessions' own ones not included."""
        return [pid for pid in _descendants(self.pid) if _name(pid).startswith("sshd")]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to all that serve connections: SIGKILL cuts them, SIGSTOP makes them hang."""
        for pid in self.connections():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def log(self) -> str:
        return (self.folder / "log").read_text()


@contextmanager
def an_sshd(*settings: str, username: str | None = None, hosts: Sequence[str] = TYPES) -> Generator[Sshd]:
    """Start a server and stop it, with all its connections.

    Args:
        settings: lines of its configuration, which win over the usual ones.
        username: who logs in; None: the user of the tests.
        hosts: the types of its host keys.
    """
    program = _find("sshd")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it goes without privileges
    with tempfile.TemporaryDirectory(prefix="apflow-sshd-") as name, free_socket() as reserved:
        folder = Path(name)
        folder.chmod(0o755)  # another user who logs in reads the authorized keys
        keys, locked = _make_keys(folder)
        port = port_of(reserved)
        (folder / "config").write_text(_configuration(folder, port, settings, hosts))
        with (folder / "log").open("wb") as log:
            command = [program, "-D", "-e", "-f", str(folder / "config")]
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
            username = username or getpass.getuser()
            server = Sshd("127.0.0.1", port, username, folder, process.pid, keys, locked)
            try:
                _wait_for_start(process)
                # What it says later goes to the file, so that it never waits for a reader.
                copier = subprocess.Popen(["cat"], stdin=process.stderr, stdout=log)
                try:
                    yield server
                finally:
                    _stop(server, process)
                    copier.wait(START_SECONDS)
            finally:
                _stop(server, process)
                assert process.stderr is not None
                process.stderr.close()


@contextmanager
def a_system_user(shell: str = "/bin/sh") -> Generator[tuple[str, str]]:
    """Create a user who can log in by password, give name and password, and remove the user. Needs root."""
    if os.geteuid() != 0 or shutil.which("useradd") is None:
        pytest.skip("creating a user needs root and useradd")
    name, password = f"apflow{secrets.token_hex(5)}", secrets.token_urlsafe(18)
    subprocess.run(["useradd", "-M", "-d", "/tmp", "-s", shell, name], check=True, capture_output=True)
    try:
        subprocess.run(["chpasswd"], input=f"{name}:{password}", text=True, check=True, capture_output=True)
        yield name, password
    finally:
        subprocess.run(["userdel", "-f", name], check=False, capture_output=True)


def _find(program: str) -> str:
    required.program("ssh-keygen")
    return required.program(program)


def _make_keys(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    for kind in TYPES:
        _write_key(folder / f"host_{kind}", kind)
    keys = {kind: _write_key(folder / f"user_{kind}", kind) for kind in TYPES}
    locked = {kind: _write_key(folder / f"locked_{kind}", kind, PASSPHRASE) for kind in TYPES}
    public = [Path(f"{path}.pub").read_text() for path in [*keys.values(), *locked.values()]]
    (folder / "authorized_keys").write_text("".join(public))
    return keys, locked


def _write_key(path: Path, kind: str, passphrase: str = "") -> Path:
    private, public = _generate(path.name, kind, passphrase)
    path.touch(0o600)
    path.write_text(private)
    Path(f"{path}.pub").write_text(public)
    return path


@cache
def _generate(name: str, kind: str, passphrase: str) -> tuple[str, str]:
    """Make a key, one for each name: the servers of a process share them, since an RSA key takes time."""
    bits = ["-b", "2048"] if kind == "rsa" else []
    rounds = ["-a", "1"]  # of deriving the passphrase's key: few, to save time
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        command = ["ssh-keygen", "-q", "-t", kind, *bits, *rounds, "-N", passphrase, "-f", str(path)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=60)
        return path.read_text(), Path(f"{path}.pub").read_text()


def _configuration(folder: Path, port: int, settings: Sequence[str], hosts: Sequence[str]) -> str:
    lines = [
        *settings,
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        *(f"HostKey {folder / f'host_{kind}'}" for kind in hosts),
        f"AuthorizedKeysFile {folder / 'authorized_keys'}",
        f"PidFile {folder / 'pid'}",
        "StrictModes no",  # the directory is below a world-writable one
        "UsePAM no",
        "PermitRootLogin yes",
        "PasswordAuthentication yes",
        "UseDNS no",
    ]
    return "\n".join(lines) + "\n"


def _wait_for_start(process: subprocess.Popen[bytes]) -> None:
    assert process.stderr is not None
    said, deadline = b"", time.monotonic() + START_SECONDS
    while b"Server listening on" not in said:
        readable, _, _ = select.select([process.stderr], [], [], max(0, deadline - time.monotonic()))
        data = os.read(process.stderr.fileno(), 4096) if readable else b""
        assert data, f"sshd did not start: {said.decode()}"
        said += data


def _stop(server: Sshd, process: subprocess.Popen[bytes]) -> None:
    server.send(signal.SIGKILL)
    process.kill()
    process.wait(START_SECONDS)


def _descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            fields = path.read_text().rpartition(")")[2].split()
            parents.setdefault(int(fields[1]), []).append(int(path.parent.name))
    found, waiting = [], [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def _name(pid: int) -> str:
    with suppress(OSError):
        if found := re.search(r"\((.*)\)", Path(f"/proc/{pid}/stat").read_text()):
            return found[1]
    return ""
