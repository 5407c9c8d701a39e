"""Hosts on one machine: network namespaces with separate addresses, which a bridge connects.

They and all that runs on them end with the context, or at the latest after `LIFETIME` seconds: they live in
namespaces for networks, mounts and processes whose first process is a `sleep`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from peers import required

LIFETIME = 600  # seconds
NETWORK = "10.77.0"
ENVIRONMENT = os.environ | {"PATH": required.SYSTEM_PATH}
CAN_MAKE_HOSTS = (
    os.getuid() == 0 and shutil.which("unshare") and shutil.which("ip", path=required.SYSTEM_PATH)
)

SETUP = """
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
ip link add hosts type bridge
ip link set hosts up
number=0
for name in "$@"; do
    number=$((number + 1))
    ip netns add "$name"
    ip link add "$name" type veth peer name eth0 netns "$name"
    ip link set "$name" master hosts up
    ip -n "$name" addr add "{network}.$number/24" dev eth0
    ip -n "$name" link set eth0 up
    ip -n "$name" link set lo up
done
echo ready
exec sleep {lifetime}
"""


@dataclass
class Hosts:
    """Hosts by name. Use it as a context."""

    folder: Path  # of the output of programs
    names: Sequence[str]
    _sleep: int = 0  # the first process, by its id here
    _holder: subprocess.Popen[str] | None = None
    _programs: list[subprocess.Popen[bytes]] = field(default_factory=list[subprocess.Popen[bytes]])

    def __enter__(self) -> Hosts:
        private = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        setup = SETUP.format(network=NETWORK, lifetime=LIFETIME)
        self._holder = subprocess.Popen(
            ["unshare", *private, "sh", "-ec", setup, "sh", *self.names],
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n", "the hosts were not made: see the errors above"
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text()
        self._sleep = int(children.split()[0])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._holder is not None
        assert self._holder.stdout is not None
        self._holder.kill()  # its child ends, too, and with it all processes of the hosts
        self._holder.wait()
        self._holder.stdout.close()
        for each in self._programs:
            each.wait(30)

    def address(self, name: str) -> str:
        """Return the address of a host."""
        return f"{NETWORK}.{self.names.index(name) + 1}"

    def start(
        self, name: str, *command: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program on a host; its output is appended to `<host>.log` in the folder."""
        with self.log(name).open("ab") as log:
            program = subprocess.Popen(
                self._inside("ip", "netns", "exec", name, *command),
                env=ENVIRONMENT | dict(environment or {}),
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        self._programs.append(program)
        return program

    def log(self, name: str) -> Path:
        """Return the file with the output of the programs of a host."""
        return self.folder / f"{name}.log"

    def cut(self, name: str) -> None:
        """Disconnect a host from all others. Connections stay open, and nothing arrives."""
        self._run("ip", "link", "set", name, "down")

    def join(self, name: str) -> None:
        """Connect it again."""
        self._run("ip", "link", "set", name, "up")

    def _run(self, *command: str) -> None:
        subprocess.run(self._inside(*command), check=True, timeout=30, env=ENVIRONMENT)

    def _inside(self, *command: str) -> list[str]:
        return ["nsenter", "--target", str(self._sleep), "--net", "--mount", "--pid", "--", *command]
