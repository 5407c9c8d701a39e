"""What the tools know of the repository: where it is, its packages, what they declare."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
UMBRELLA = "aipartnerupflow"


@dataclass(frozen=True)
class Package:
    """One folder below `packages/`."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def module(self) -> str:
        """The module that the distribution's name stands for."""
        first, _, rest = self.name.partition("-")
        area, _, leaf = rest.partition("-")
        parts = [first, area, leaf.replace("-", "_")]
        return ".".join(part for part in parts if part)

    @property
    def module_folder(self) -> Path:
        return self.folder.joinpath("src", *self.module.split("."))

    @cached_property
    def pyproject(self) -> dict[str, Any]:
        return tomllib.loads((self.folder / "pyproject.toml").read_text())

    @property
    def project(self) -> dict[str, Any]:
        return self.pyproject["project"]

    @property
    def requirements(self) -> list[str]:
        return list(self.project.get("dependencies", []))

    @property
    def all_requirements(self) -> list[str]:
        """The requirements, those of the extras included."""
        extras: dict[str, list[str]] = self.project.get("optional-dependencies", {})
        return [*self.requirements, *(each for extra in extras.values() for each in extra)]

    @property
    def entry_points(self) -> Iterator[tuple[str, str, str]]:
        """Each entry point as (group, name, target), scripts included."""
        groups: dict[str, dict[str, str]] = dict(self.project.get("entry-points", {}))
        groups["console_scripts"] = self.project.get("scripts", {})
        for group, points in groups.items():
            for name, target in points.items():
                yield group, name, target


def packages(root: Path = ROOT) -> list[Package]:
    return [Package(each.parent) for each in sorted(root.glob("packages/*/pyproject.toml"))]


def requirement_name(requirement: str) -> str:
    """The normalised distribution name that a requirement begins with."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    if found is None:
        raise ValueError(f"{requirement!r} names no distribution")
    return re.sub(r"[-_.]+", "-", found.group()).lower()


def is_first_party(requirement: str) -> bool:
    name = requirement_name(requirement)
    return name == UMBRELLA or name.startswith("apflow-")


def report(faults: Sequence[str], advice: str = "") -> int:
    """Print the faults and return the exit code: 1 if there are any, otherwise 0."""
    for fault in faults:
        print(fault)
    if faults and advice:
        print(advice)
    return 1 if faults else 0
