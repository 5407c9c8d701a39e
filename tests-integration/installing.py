"""Wheels of this repository, and new environments that contain only the requested packages.

Our own distributions come from the wheels alone, never from an index, where their names may be taken.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path
from typing import Any
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
CONSTRAINTS_CREWAI = ROOT / "constraints-crewai.txt"
CREWAI = "apflow-executor-crewai"
PLAIN = {name: value for name, value in os.environ.items() if not name.startswith(("APFLOW_", "PYTHON"))}


def run(*command: str | Path, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, env=PLAIN | (environment or {})
    )


def must_run(*command: str | Path) -> str:
    finished = run(*command)
    assert finished.returncode == 0, f"{command}\n{finished.stdout}\n{finished.stderr}"
    return finished.stdout


def build(folder: Path, into: Path) -> None:
    must_run("uv", "build", "--quiet", "--wheel", "--build-constraints", CONSTRAINTS, "-o", into, folder)


@dataclass(frozen=True)
class Wheel:
    path: Path

    @property
    def name(self) -> str:
        return self.path.name.partition("-")[0].replace("_", "-")

    @property
    def version(self) -> str:
        return self.path.name.split("-")[1]

    @property
    def files(self) -> list[str]:
        with ZipFile(self.path) as archive:
            return archive.namelist()

    @property
    def requirements(self) -> list[str]:
        """What it requires without extras."""
        with ZipFile(self.path) as archive:
            metadata = next(each for each in archive.namelist() if each.endswith("/METADATA"))
            headers = HeaderParser().parsestr(archive.read(metadata).decode())
        return [each for each in headers.get_all("Requires-Dist", []) if "extra ==" not in each]


@dataclass(frozen=True)
class Wheels:
    """A folder of wheels."""

    folder: Path

    def __getitem__(self, name: str) -> Wheel:
        return Wheel(next(self.folder.glob(f"{name.replace('-', '_')}-*.whl")))

    def needed_by(self, names: Iterable[str]) -> list[Path]:
        """The wheels of these distributions and of every sibling that they declare, in turn."""
        ours = {Wheel(each).name for each in self.folder.glob("*.whl")}
        found, waiting = dict[str, Path](), list(names)
        while waiting:
            wheel = self[waiting.pop()]
            if wheel.name not in found:
                found[wheel.name] = wheel.path
                required = [re.split(r"[^A-Za-z0-9-]", each, maxsplit=1)[0] for each in wheel.requirements]
                waiting.extend(name for name in required if name in ours)
        return list(found.values())


@dataclass(frozen=True)
class Environment:
    """A virtual environment."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"

    def install(self, *wheels: Path, is_forced: bool = False) -> subprocess.CompletedProcess[str]:
        has_crewai = any(Wheel(each).name == CREWAI for each in wheels)
        constraints = CONSTRAINTS_CREWAI if has_crewai else CONSTRAINTS
        options = ["--no-deps"] if is_forced else ["-c", constraints]
        return run("uv", "pip", "install", "--quiet", "--python", self.python, *options, *wheels)

    def apflow(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run the program, on a database of this environment."""
        ours = {
            "APFLOW_DATABASE_URL": f"duckdb:///{self.folder}/test.duckdb",
            "XDG_CONFIG_HOME": str(self.folder),
        }
        return run(self.python, "-m", "apflow.cli", *arguments, environment=ours | settings)

    def answer(self, *arguments: str, **settings: str) -> Any:
        """Run the program with `--json`, and return what it says."""
        finished = self.apflow(*arguments, "--json", **settings)
        assert finished.stdout, finished.stderr
        return json.loads(finished.stdout)


def new_environment(folder: Path) -> Environment:
    must_run("uv", "venv", "--quiet", "--python", sys.executable, folder)
    return Environment(folder)
