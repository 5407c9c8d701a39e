"""A real Docker engine for tests: `dockerd`, with its data in a temporary directory, and one image.

It listens at a Unix socket and, where a test says so, at a port of the loopback interface. It changes neither
the firewall nor the interfaces of this machine: its containers have no network. The image is a busybox.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException
from peers import required

IMAGE = "apflow-test/busybox:1"
BUSYBOX = Path("/usr/bin/busybox")  # Debian's busybox-static
START_SECONDS, STOP_SECONDS = 60.0, 30.0


@dataclass
class Engine:
    """An engine, which may be killed and started again."""

    folder: Path
    command: list[str]
    image: str = IMAGE
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        (self.folder / "none.json").write_text("{}")  # nothing of what is set for this machine's own engine
        self.start()

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/d.sock"

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PATH": required.SYSTEM_PATH},
                start_new_session=True,
            )
        until = time.monotonic() + START_SECONDS
        while not self._listens():
            if self.process.poll() is not None or time.monotonic() > until:
                self.kill()
                said = (self.folder / "log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"The Docker engine does not start:\n{said}")
            time.sleep(0.05)
        with self.client() as client:
            client.ping()

    def kill(self) -> None:
        """Kill it as a crash would: its containers continue."""
        self.process.kill()
        self.process.wait()
        # containerd dies with it; until it is reaped, its process id would count as alive.
        (self.folder / "exec/containerd/containerd.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """Stop it with its containers; kill what does not end."""
        with suppress(OSError, DockerException), self.client() as client:
            for each in client.containers(all=True):
                client.remove_container(each["Id"], force=True, v=True)
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        for pid in _pids_below(self.folder):  # where it was killed: containerd, and what holds containers
            _end(pid, str(self.folder))

    @contextmanager
    def client(self) -> Generator[docker.APIClient]:
        """Yield a client to inspect the engine."""
        client = docker.APIClient(base_url=self.url, version="auto", timeout=30)
        try:
            yield client
        finally:
            client.close()

    def containers(self) -> list[str]:
        """Return the ids of the containers there are, whatever their state."""
        with self.client() as client:
            return [each["Id"] for each in client.containers(all=True)]

    def running(self) -> list[str]:
        """Return the ids of the containers that run."""
        with self.client() as client:
            return [each["Id"] for each in client.containers()]

    def _listens(self) -> bool:
        # Not by the library, which leaves its socket open if the connection is refused (docker 7.2).
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(f"{self.folder}/d.sock") == 0


def check_possible() -> None:
    """Skip the test where no engine can be started here; fail it in CI, where one must be."""
    missing = [
        name
        for name in ("dockerd", "containerd", "runc")
        if shutil.which(name, path=required.SYSTEM_PATH) is None
    ]
    missing += [] if BUSYBOX.exists() else [str(BUSYBOX)]
    missing += [] if os.geteuid() == 0 else ["the rights of root"]
    if missing:
        required.missing(f"No Docker engine can be started: {', '.join(missing)} missing.")


@contextmanager
def an_engine(*options: str, launcher: tuple[str, ...] = ()) -> Generator[Engine]:
    """Start an engine and stop it at the end, with all that it started.

    Args:
        options: more for `dockerd`: where else to listen, say.
        launcher: a program that runs it: `unshare`, say.
    """
    check_possible()
    folder = Path(tempfile.mkdtemp(prefix="apd-", dir="/tmp"))  # the path of a Unix socket is short
    try:
        engine = Engine(folder, [*launcher, *_command(folder), *options])
        try:
            with _guarded(engine), engine.client() as client:
                client.import_image_from_data(busybox_image(), *IMAGE.rsplit(":", 1))
                yield engine
        finally:
            engine.stop()
    finally:
        remove_folder(folder)


def _command(folder: Path) -> list[str]:
    return [
        "dockerd",
        "--iptables=false",
        "--ip-forward=false",
        "--bridge=none",
        f"--data-root={folder}/data",
        f"--exec-root={folder}/exec",
        f"--host=unix://{folder}/d.sock",
        f"--pidfile={folder}/pid",
        f"--config-file={folder}/none.json",
    ]


@contextmanager
def _guarded(engine: Engine) -> Generator[None]:
    """Stop the engine also where the process of the tests is killed: the guard's input ends then, too."""
    command = ["sh", "-c", 'cat > /dev/null; kill -TERM "$(cat "$0/pid")"', str(engine.folder)]
    guard = subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield
    finally:
        guard.kill()
        guard.communicate()


def _end(pid: int, mark: str) -> None:
    """Kill a process, if it is still the one that was meant: its command line names the folder."""
    until = time.monotonic() + 5
    while _is_it(pid, mark) and time.monotonic() < until:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _is_it(pid: int, mark: str) -> bool:
    with suppress(OSError):
        return mark.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _pids_below(folder: Path) -> Iterator[int]:
    for each in Path("/proc").glob("[0-9]*"):
        if _is_it(int(each.name), f"{folder}/exec/containerd"):
            yield int(each.name)


def remove_folder(folder: Path) -> None:
    """Remove what an engine kept, what it mounted first, the innermost before the others."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for each in sorted((each for each in mounts if each.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "-l", each], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def busybox_image() -> bytes:
    """Return the tar of a file system: busybox under all its names, and one file that is not a program."""
    names = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout.split()
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for folder in ("bin", "dev", "etc", "proc", "root", "sys", "tmp"):
            tar.addfile(_entry(folder, type=tarfile.DIRTYPE, mode=0o1777 if folder == "tmp" else 0o755))
        tar.add(BUSYBOX, "bin/busybox")
        for name in sorted({*names} - {"busybox"}):
            tar.addfile(_entry(f"bin/{name}", type=tarfile.SYMTYPE, linkname="busybox"))
        tar.addfile(_entry("bin/not-a-program", mode=0o755, size=4), io.BytesIO(b"\0\1\2\3"))
    return content.getvalue()


def _entry(name: str, **facts: object) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    for fact, value in facts.items():
        setattr(entry, fact, value)
    return entry


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Engine]:
    """Give an engine that lives as long as the session."""
    with an_engine() as engine:
        yield engine
