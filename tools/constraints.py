"""The versions that development and CI install, compiled by uv for every Python at once.

`constraints.txt` is for all environments but that of CrewAI, which needs older versions of several libraries:
`constraints-crewai.txt`. They name versions only, never a registry, so that they work behind any index.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repository import ROOT, Package, is_first_party, packages, report, requirement_name

APART = "apflow-executor-crewai"
ITS_ENVIRONMENT = APART.removeprefix("apflow-")
BUILD = {"hatchling"}

Environments = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Constraints:
    """A file of constraints, and the requirements that it pins."""

    file: Path
    requirements: list[str]


def wanted() -> list[Constraints]:
    """Every third-party requirement of packages and environments, by the file that pins it."""
    environments: Environments = tomllib.loads((ROOT / "hatch.toml").read_text())["envs"]
    found = packages()
    others = {name: each for name, each in environments.items() if name != ITS_ENVIRONMENT}
    apart = environments[ITS_ENVIRONMENT]
    members = {Path(each).name for each in apart["workspace"]["members"]}
    both = {"default": environments["default"], ITS_ENVIRONMENT: apart}
    return [
        Constraints(ROOT / "constraints.txt", _requirements((p for p in found if p.name != APART), others)),
        Constraints(
            ROOT / "constraints-crewai.txt", _requirements((p for p in found if p.name in members), both)
        ),
    ]


def _requirements(of: Iterable[Package], environments: Environments) -> list[str]:
    found = set(BUILD)
    for package in of:
        found.update(each for each in package.all_requirements if not is_first_party(each))
    for environment in environments.values():
        found.update(environment.get("dependencies", []) + environment.get("extra-dependencies", []))
    return sorted(found)


def compile_versions(constraints: Constraints) -> None:
    command = ["uv", "pip", "compile", "-", "--quiet", "--universal", "--python-version", "3.11", "--upgrade"]
    shown = ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links"]
    into = ["-o", str(constraints.file)]
    requirements = "\n".join(constraints.requirements)
    subprocess.run([*command, *shown, *into], input=requirements, text=True, check=True)


def check(constraints: Constraints) -> list[str]:
    name = constraints.file.name
    lines = [line for line in constraints.file.read_text().splitlines() if line and not line.startswith("#")]
    pinned = {requirement_name(line) for line in lines if "==" in line}
    faults = [
        f"{name}: {line!r} is not a pinned version" for line in lines if "==" not in line or "://" in line
    ]
    missing = sorted({requirement_name(each) for each in constraints.requirements} - pinned)
    return faults + [f"{name}: {each} is missing" for each in missing]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say what is missing")
    parser.add_argument("--only", metavar="FILE", help="only this file, by its name")
    options = parser.parse_args()
    files = [each for each in wanted() if options.only in (None, each.file.name)]
    if options.check:
        faults = [fault for each in files for fault in check(each)]
        return report(faults, "Run: hatch run dev:python tools/constraints.py")
    for each in files:
        compile_versions(each)
    return 0


if __name__ == "__main__":
    sys.exit(main())
