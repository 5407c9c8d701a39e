"""What is asked of the engine: decided from the inputs before anything is started. Pure.

A container has no capabilities, gains no privileges, and holds to limits, whatever a task says.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apflow.executor.docker.errors import DockerRefusedError
from apflow.executor.docker.schema import MAX_CPUS, MAX_MEMORY, MEMORY, MIN_CPUS, OUTPUT_BYTES, PIDS
from apflow.executor.docker.volume import Volume

NO_NETWORK = "none"
SHOWN_LENGTH = 200
# What Linux takes: of one argument or variable, and of all together (what the image adds is in the margin).
# More is refused here, because engines do not always notice (runc 1.1 hangs).
MAX_TEXT_LENGTH, MAX_TOTAL_LENGTH = (128 << 10) - 1, (2 << 20) - (128 << 10)
# Of a container that is kept, what it says stays with the engine, too; of any other nothing does.
KEPT_LOG = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "1"}}

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_MEMORY = re.compile(r"([0-9]+(?:\.[0-9]+)?)([bkmg]?)b?", re.IGNORECASE)
# The name or id of a network; `container:NAME` and its kind have a colon.
_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a container may use at most; None: no limit."""

    memory: int | None  # bytes, swap included
    cpu: float | None
    pids: int | None

    def config(self) -> dict[str, Any]:
        """Return them as the engine's API takes them."""
        return {
            "Memory": self.memory or 0,
            "MemorySwap": self.memory or 0,  # memory and swap together: none of it is swap
            "NanoCpus": round((self.cpu or 0) * 1e9),
            "PidsLimit": self.pids or 0,
        }

    def not_held(self, held: Mapping[str, Any]) -> list[str]:
        """Return the names of the limits that the engine has dropped, given what it says it holds."""
        names = {"Memory": "memory", "MemorySwap": "memory", "NanoCpus": "cpu", "PidsLimit": "pids"}
        asked = self.config()
        return sorted({
            name for key, name in names.items() if asked[key] and (held.get(key) or 0) != asked[key]
        })  # fmt: skip


@dataclass(frozen=True, slots=True)
class Launch:
    """A validated description of the container to run."""

    image: str
    shown: str  # the command, for people
    config: dict[str, Any]  # as the engine's API takes it
    limits: Limits
    network: str
    stdin: bytes
    pull: str
    is_kept: bool
    max_output_bytes: int


def plan_launch(
    inputs: Mapping[str, Any], volumes: Sequence[Volume], labels: Mapping[str, str], ours: Mapping[str, str]
) -> Launch:
    """Return what to run.

    Args:
        ours: variables that the container is given, unless the task sets them.

    Raises:
        DockerRefusedError: something in it is not allowed, or cannot be said.
    """
    limits = plan_limits(inputs.get("resources") or {})
    network = inputs.get("network", NO_NETWORK)
    check_network(network)
    stdin = _bytes("stdin", inputs.get("stdin", ""))
    is_kept = not inputs.get("remove", True)
    config: dict[str, Any] = {
        "Image": _text("image", inputs["image"]),
        "Cmd": split("command", inputs["command"]),
        "Env": plan_environment({**ours, **inputs.get("env", {})}),
        "Labels": dict(labels),
        "AttachStdout": True,
        "AttachStderr": True,
        "OpenStdin": bool(stdin),
        "StdinOnce": bool(stdin),
        "HostConfig": _host_config(limits, network, volumes, is_kept=is_kept),
    }
    if "entrypoint" in inputs:
        config["Entrypoint"] = split("entrypoint", inputs["entrypoint"])
    for name, key in (("working_dir", "WorkingDir"), ("user", "User")):
        if name in inputs:
            config[key] = _text(name, inputs[name])
    check_length(config)
    return Launch(
        image=inputs["image"],
        shown=shown(inputs["command"]),
        config=config,
        limits=limits,
        network=network,
        stdin=stdin,
        pull=inputs.get("pull", "missing"),
        is_kept=is_kept,
        max_output_bytes=inputs.get("max_output_bytes", OUTPUT_BYTES),
    )


def _host_config(limits: Limits, network: str, volumes: Sequence[Volume], *, is_kept: bool) -> dict[str, Any]:
    return {
        **limits.config(),
        "NetworkMode": network,
        "Privileged": False,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "IpcMode": "private",
        "Mounts": [each.mount() for each in volumes],
        "LogConfig": KEPT_LOG if is_kept else {"Type": "none"},
    }


def plan_limits(resources: Mapping[str, Any]) -> Limits:
    """Return the limits of a container, the defaults where none are given."""
    return Limits(
        memory=read_memory(resources.get("memory", MEMORY)),
        cpu=read_cpu(resources.get("cpu")),
        pids=resources.get("pids", PIDS),
    )


def read_cpu(given: float | str | None) -> float | None:
    """Return a number of processors, which may be written as a string; None for no limit.

    Raises:
        DockerRefusedError: the number is out of range.
    """
    if not isinstance(given, str):
        return given
    number = float(given)
    if not MIN_CPUS <= number <= MAX_CPUS:
        raise DockerRefusedError(f"resources.cpu is {given!r}: write a number from {MIN_CPUS} to {MAX_CPUS}.")
    return number


def read_memory(given: int | str | None) -> int | None:
    """Return an amount of memory in bytes: `256m` are 256 times 1,048,576."""
    if given is None:
        return None
    read = _MEMORY.fullmatch(str(given))
    size = 0 if read is None else int(float(read[1]) * _UNITS[read[2].lower()])
    if not 0 < size < MAX_MEMORY:
        raise DockerRefusedError(f"resources.memory is {given!r}: write bytes, or a number with k, m or g.")
    return size


def plan_environment(env: Mapping[str, str]) -> list[str]:
    """Return variables as the engine's API takes them."""
    for name, value in env.items():
        # The name of a variable is not secret; its value may be.
        if not name or "=" in name:
            raise DockerRefusedError(f"env: {name!r} is not a valid name of an environment variable.")
        _text(f"env.{name}", name, value)
    return [f"{name}={value}" for name, value in env.items()]


def check_network(network: str) -> None:
    """Raise `DockerRefusedError` for a network that is this machine's, or another container's."""
    if network == "host" or not _NETWORK.fullmatch(network):
        raise DockerRefusedError(
            f"The network {network!r} is refused: a container would share the network of this machine or "
            'of another container, with all that listens there. "none", "bridge" and networks made for it by '
            "name are allowed."
        )


def split(what: str, command: str | Sequence[str]) -> list[str]:
    """Return the arguments of a command: a list unchanged, a string split by the rules of shlex."""
    try:
        argv = shlex.split(command) if isinstance(command, str) else list(command)
    except ValueError as error:
        raise DockerRefusedError(f"The {what} {shown(command)} cannot be split: {error}.") from error
    if not argv:
        raise DockerRefusedError(f"The {what} {shown(command)} names no program.")
    _text(what, *argv)
    return argv


def check_length(config: Mapping[str, Any]) -> None:
    """Raise `DockerRefusedError` for more arguments and variables than a program can be given."""
    for what, key in (("entrypoint", "Entrypoint"), ("command", "Cmd"), ("env", "Env")):
        if any(len(each.encode()) > MAX_TEXT_LENGTH for each in config.get(key, ())):
            raise DockerRefusedError(
                f"{what} contains a string longer than {MAX_TEXT_LENGTH} bytes, the kernel's limit. "
                "Use stdin."
            )
    texts = [each for key in ("Entrypoint", "Cmd", "Env") for each in config.get(key, ())]
    if sum(len(each.encode()) + 9 for each in texts) > MAX_TOTAL_LENGTH:  # its end, and a pointer to it
        raise DockerRefusedError(
            f"The command and env are over {MAX_TOTAL_LENGTH} bytes together, which no program is given. "
            "Use stdin."
        )


def shown(command: str | Sequence[str]) -> str:
    """Return a command for people, cut where it is long."""
    text = command if isinstance(command, str) else shlex.join(command)
    return f"`{text}`" if len(text) <= SHOWN_LENGTH else f"`{text[:SHOWN_LENGTH]}...`"


def _text(what: str, *texts: str) -> str:
    """Return the last string after checking that the engine can pass each to a program."""
    for text in texts:
        if "\0" in text:
            raise DockerRefusedError(f"{what} contains a null byte, which no program can be given.")
        _bytes(what, text)
    return texts[-1]


def _bytes(what: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # which holds the text, perhaps a secret
        raise DockerRefusedError(f"{what} contains a lone surrogate, which is not valid Unicode.") from None
