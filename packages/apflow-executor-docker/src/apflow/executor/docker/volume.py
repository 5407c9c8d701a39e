"""Which folders and files of this machine a container may be given: decided before anything is started.

What is judged, and then mounted, is the real path, with all links resolved.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from apflow.executor.docker.errors import DockerRefusedError

# Who holds these holds the machine. They, what is in them and what they are in is never given to a container.
FORBIDDEN = (
    "/proc",
    "/sys",
    "/dev",
    "/boot",
    "/run/docker",
    "/run/docker.sock",
    "/var/run/docker.sock",
    "/run/containerd",
    "/run/podman",
    "/var/lib/docker",
    "/var/lib/containerd",
)


@dataclass(frozen=True, slots=True)
class Volume:
    """A folder or file of this machine, and where the container sees it."""

    source: str  # a real path
    target: str
    is_read_only: bool

    def mount(self) -> dict[str, Any]:
        """Return it as the engine's API takes it."""
        return {
            "Type": "bind",  # unlike a "bind" by text, it creates no folder that is not there
            "Source": self.source,
            "Target": self.target,
            "ReadOnly": self.is_read_only,
            # What is mounted below it stays out: read-only would not hold there.
            "BindOptions": {"Propagation": "rprivate", "NonRecursive": True},
        }


def plan_volumes(given: Mapping[str, Any], roots: Sequence[str], engine_url: str) -> list[Volume]:
    """Return what is mounted.

    Raises:
        DockerRefusedError: a volume is not below one of `roots`, or must never be mounted.
    """
    if not given:
        return []
    if not roots:
        raise DockerRefusedError(
            "Volumes are off. Name the folders below which any may be mounted: "
            "APFLOW_DOCKER_VOLUME_ROOTS=/srv/data."
        )
    if not engine_url.startswith("unix://"):
        raise DockerRefusedError(
            f"Volumes are refused at {engine_url}: the paths that are checked here would be those of another "
            "machine. They need an engine at a Unix socket of this one."
        )
    forbidden = [*FORBIDDEN, engine_url.removeprefix("unix://")]
    return [_volume(source, target, roots, forbidden) for source, target in given.items()]


def _volume(source: str, given: Any, roots: Sequence[str], forbidden: Sequence[str]) -> Volume:
    target, mode = (given, "ro") if isinstance(given, str) else (given["bind"], given.get("mode", "ro"))
    _check_spelling(source, target)
    real = _real(source)
    meant = source if real == source else f"{source} ({real})"
    for each in forbidden:
        _refuse_forbidden(meant, Path(real), each)
    allowed = [os.path.realpath(root) for root in roots if Path(root).is_absolute()]
    if not any(Path(real).is_relative_to(root) for root in allowed):
        raise DockerRefusedError(
            f"The volume {meant} is below none of the folders that APFLOW_DOCKER_VOLUME_ROOTS names: "
            f"{', '.join(roots)}."
        )
    return Volume(real, target, is_read_only=mode == "ro")


def _check_spelling(source: str, target: str) -> None:
    if not source.startswith("/"):
        raise DockerRefusedError(
            f"The volume {source!r} is refused: it must be the absolute path of a folder or file of this "
            "machine. Volumes that the engine keeps by name are not used."
        )
    for path in (source, target):
        if "\0" in path or ".." in PurePosixPath(path).parts:
            raise DockerRefusedError(f"The path {path!r} of a volume is refused: write it without `..`.")
    if not target.startswith("/") or not PurePosixPath(target).name:
        raise DockerRefusedError(f"The volume {source} needs an absolute path in the container other than /.")


def _real(source: str) -> str:
    """Return the real path of what may be mounted by its kind: a folder or a file."""
    try:
        real = os.path.realpath(source, strict=True)
        mode = Path(real).stat().st_mode
    except (OSError, ValueError) as error:
        cause = getattr(error, "strerror", None) or error
        raise DockerRefusedError(f"The volume {source} cannot be mounted: {cause}.") from error
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise DockerRefusedError(f"The volume {source} is refused: it is neither a folder nor a file.")
    return real


def _refuse_forbidden(meant: str, real: Path, forbidden: str) -> None:
    for each in {Path(forbidden), Path(os.path.realpath(forbidden))}:
        if real.is_relative_to(each) or each.is_relative_to(real):
            raise DockerRefusedError(
                f"The volume {meant} is refused, whatever APFLOW_DOCKER_VOLUME_ROOTS says: "
                f"by way of {each} a container could take over the machine."
            )
