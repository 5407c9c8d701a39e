"""Resolves what the packages require without constraints, as their users do, and checks what comes out.

uv resolves all packages together, and each one alone. pip resolves all of them together, and each one
alone that needs a library with old releases. An installer that finds no way with the newest releases goes
back to old ones without a word, so the versions are printed, and those of `OLDEST` are checked.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from check_packages import closure
from packaging.version import Version
from repository import Package, is_first_party, packages, report, requirement_name

# What older releases would be a fault of, and releases that must never be installed.
OLDEST = {"crewai": Version("1.15.30"), "litellm": Version("1.108.14")}
NEVER = {"litellm": {Version("1.82.7"), Version("1.82.8")}}
SHOWN = (
    "crewai", "litellm", "openai", "mcp", "fastmcp", "a2a-sdk", "pydantic", "fastapi", "starlette", "uvicorn",
    "httpx", "click", "rich", "protobuf", "grpcio", "opentelemetry-sdk",
)  # fmt: skip
CHOICES = {
    "UV_CONSTRAINT",
    "UV_RESOLUTION",
    "PIP_CONSTRAINT",
}  # variables of environments that decide on versions
LIMIT_SECONDS = 600.0  # for one resolution

Versions = dict[str, Version]


@dataclass(frozen=True)
class Resolution:
    """One question to an installer."""

    installer: str
    name: str
    requirements: list[str]
    python: str


def requirements_of(names: Iterable[str], by_name: dict[str, Package]) -> list[str]:
    """Return the third-party requirements of packages, with those of their extras."""
    found = {each for name in names for each in by_name[name].all_requirements}
    return sorted(each for each in found if not is_first_party(each))


def resolutions(here: str) -> Iterator[Resolution]:
    """Yield what is resolved. `here`: the Python that runs, for which alone pip resolves."""
    by_name = {package.name: package for package in packages()}
    everything = requirements_of(by_name, by_name)
    for python in ("3.11", "3.13", "3.14"):
        yield Resolution("uv", "everything", everything, python)
    yield Resolution("pip", "everything", everything, here)
    for package in by_name.values():
        alone = requirements_of(closure(package, by_name), by_name)
        yield Resolution("uv", package.name, alone, "3.11")
        if any(requirement_name(each) in OLDEST for each in alone):
            yield Resolution("pip", package.name, alone, here)


def with_uv(resolution: Resolution) -> Versions:
    command = ["uv", "pip", "compile", "-", "--quiet", "--no-header", "--no-annotate", "--no-emit-index-url"]
    shown = call([*command, "--python-version", resolution.python], "\n".join(resolution.requirements))
    pins = (line.partition(";")[0].strip().partition("==") for line in shown.splitlines() if "==" in line)
    return {requirement_name(name): Version(version) for name, _, version in pins}


def with_pip(resolution: Resolution, python: Path, folder: Path) -> Versions:
    listed = folder / f"{resolution.name}.txt"
    listed.write_text("\n".join(resolution.requirements))
    options = ["--dry-run", "--ignore-installed", "--quiet", "--disable-pip-version-check", "--report", "-"]
    shown = call([str(python), "-m", "pip", "install", *options, "-r", str(listed)])
    chosen = [each["metadata"] for each in json.loads(shown)["install"]]
    return {requirement_name(each["name"]): Version(each["version"]) for each in chosen}


def call(command: list[str], sent: str | None = None) -> str:
    """Run a command and return what it prints; raise `RuntimeError` with its errors if it fails."""
    free = {name: value for name, value in os.environ.items() if name not in CHOICES}
    done = subprocess.run(
        command, input=sent, capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS, env=free
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-2000:])
    return done.stdout


def faults_of(resolution: Resolution, found: Versions) -> Iterator[str]:
    """Yield what is wrong with the versions that an installer has chosen."""
    what = f"{resolution.installer}, Python {resolution.python}, {resolution.name}"
    for name, oldest in OLDEST.items():
        version = found.get(name)
        is_wanted = any(requirement_name(each) == name for each in resolution.requirements)
        if version is not None and version < oldest:
            yield f"{what}: {name} {version} is older than {oldest}"
        if version is not None and version in NEVER.get(name, ()):
            yield f"{what}: {name} {version} must never be installed"
        if version is None and is_wanted and not (name == "crewai" and resolution.python == "3.14"):
            yield f"{what}: {name} is missing"


def line_of(resolution: Resolution, found: Versions, seconds: float) -> str:
    chosen = " ".join(f"{name} {found[name]}" for name in SHOWN if name in found)
    what = f"{resolution.installer:3} {resolution.python:4} {resolution.name:28}"
    return f"{what} {len(found):4} in {seconds:5.1f} s  {chosen}"


def resolve(resolution: Resolution, python: Path, folder: Path) -> list[str]:
    """Resolve, print the versions, and return the faults."""
    began = time.monotonic()
    try:
        is_pip = resolution.installer == "pip"
        found = with_pip(resolution, python, folder) if is_pip else with_uv(resolution)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return [f"{resolution.installer}, Python {resolution.python}, {resolution.name}: {error}"]
    print(line_of(resolution, found, time.monotonic() - began), flush=True)
    return list(faults_of(resolution, found))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="NAME", help="`everything`, or the name of a package")
    options = parser.parse_args()
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    asked = [each for each in resolutions(here) if options.only in (None, each.name)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        call(["uv", "venv", "--quiet", "--seed", "--python", sys.executable, str(folder / "venv")])
        python = folder / "venv" / "bin" / "python"
        with ThreadPoolExecutor(2) as pool:
            found = [pool.submit(resolve, each, python, folder) for each in asked]
            faults = [fault for each in found for fault in each.result()]
    return report(faults)


if __name__ == "__main__":
    sys.exit(main())
