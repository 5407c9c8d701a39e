"""Make what a release consists of, in `dist/`: distributions, their checksums, a bill of materials, licences.

    hatch run release:build      wheels and sdists of all packages, SHA256SUMS
    hatch run release:sbom       a bill of materials (CycloneDX) for each way to install everything
    hatch run release:licences   the licences of all dependencies; fails if one needs a decision
    hatch run release:audit      known vulnerabilities of all pinned versions; needs the network (PyPI)

Two builds of one commit are equal, byte for byte: the time in archives is that of the commit
(SOURCE_DATE_EPOCH), or what this variable says. `sbom` and `licences` look at fresh environments with the
built wheels and the pinned versions. They take these from uv's cache where they are there, otherwise from
the index.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from check_packages import closure
from constraints import APART
from repository import ROOT, is_first_party, packages, report

DIST = ROOT / "dist"
# Names of licences in classifiers and SPDX expressions. One of several is enough.
PERMISSIVE = re.compile(
    r"\b(?:Apache|BSD|MIT|ISC|PSF|Python Software Foundation|MPL|Mozilla Public|Unlicense|CC0|Zlib|HPND|CNRI|"
    r"Academic Free|Public Domain)",
    re.IGNORECASE,
)
# Licences of libraries that must be replaceable: they are, because they are installed separately.
REPLACEABLE = ("LGPL",)
# Distributions whose metadata names no licence, and where it is stated.
STATED = {
    "cel-python": "Apache-2.0: its file LICENSE",
    "crewai": "MIT: its README, and LICENSE of github.com/crewAIInc/crewAI",
    "crewai-cli": "MIT: part of the same repository as crewai",
    "crewai-core": "MIT: part of the same repository as crewai",
}
# Distributions whose `.pth` file is known, and why it may run when Python starts.
KNOWN_PTH = {"setuptools": "distutils-precedence.pth makes `import distutils` find the copy in setuptools"}


@dataclass(frozen=True)
class Installation:
    """All packages that can be installed together, with the versions that they are tested with."""

    name: str
    packages: list[str]
    constraints: Path


def installations() -> list[Installation]:
    by_name = {each.name: each for each in packages()}
    return [
        Installation("apflow", [each for each in by_name if each != APART], ROOT / "constraints.txt"),
        Installation(APART, sorted(closure(by_name[APART], by_name)), ROOT / "constraints-crewai.txt"),
    ]


def commit_time() -> str:
    """Return SOURCE_DATE_EPOCH, or the time of the last commit, in seconds since 1970."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return given or run("git", "log", "-1", "--format=%ct").strip()


def run(*command: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a command and return its standard output.

    Raises:
        SystemExit: it fails.
    """
    finished = subprocess.run(
        list(map(str, command)), cwd=ROOT, env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if finished.returncode != 0:
        raise SystemExit(f"{finished.stdout}\n{' '.join(map(str, command))} failed.")
    return finished.stdout


def build(into: Path, names: list[str] | None = None) -> list[str]:
    """Build the wheel and the sdist of packages, and write their checksums. Return faults."""
    shutil.rmtree(into, ignore_errors=True)
    time = {"SOURCE_DATE_EPOCH": commit_time()}
    options = ["--quiet", "--build-constraints", ROOT / "constraints.txt", "-o", into]
    for package in packages():
        if names is None or package.name in names:
            run("uv", "build", *options, package.folder, environment=time)
    (into / ".gitignore").unlink(missing_ok=True)
    built = sorted(each for each in into.iterdir() if each.suffix in (".whl", ".gz"))
    lines = [f"{hashlib.sha256(each.read_bytes()).hexdigest()}  {each.name}\n" for each in built]
    (into / "SHA256SUMS").write_text("".join(lines))
    return []


@contextmanager
def installed(installation: Installation) -> Generator[Path]:
    """Yield the Python of a fresh environment that has the built wheels of an installation."""
    wheels = [_wheel(name) for name in installation.packages]
    with tempfile.TemporaryDirectory() as folder:
        run("uv", "venv", "--quiet", "--python", sys.executable, folder)
        python = Path(folder, "bin", "python")
        run("uv", "pip", "install", "--quiet", "--python", python, "-c", installation.constraints, *wheels)
        yield python


def _wheel(name: str) -> Path:
    found = sorted(DIST.glob(f"{name.replace('-', '_')}-*.whl"))
    if not found:
        raise SystemExit(f"dist/ has no wheel of {name}. Run: hatch run release:build")
    return found[-1]


def sbom() -> list[str]:
    """Write a bill of materials for each installation."""
    for installation in installations():
        file = DIST / f"{installation.name}.cdx.json"
        with installed(installation) as python:
            run("cyclonedx-py", "environment", "--output-reproducible", "--of", "JSON", "-o", file, python)
        print(f"{file.relative_to(ROOT)}: {len(json.loads(file.read_text())['components'])} components")
    return []


def licences() -> list[str]:
    """Write the licences of all dependencies. Return those that need a decision, and unknown `.pth` files."""
    faults: list[str] = []
    for installation in installations():
        with installed(installation) as python:
            shown = run("pip-licenses", "--python", python, "--from=mixed", "--with-urls", "--format=json")
            faults += pth_faults(next(python.parent.parent.glob("lib/python*/site-packages")))
        found = [each for each in json.loads(shown) if not is_first_party(each["Name"])]
        rows = [
            f"| {each['Name']} | {each['Version']} | {each['License']} | {each['URL']} |\n" for each in found
        ]
        head = "| distribution | version | licence | address |\n| --- | --- | --- | --- |\n"
        (DIST / f"{installation.name}-licences.md").write_text(head + "".join(rows))
        faults += [
            f"{each['Name']} {each['Version']} has the licence {each['License']}: is that acceptable?"
            for each in found
            if each["Name"] not in STATED and not is_acceptable(each["License"])
        ]
    return sorted(set(faults))


def is_acceptable(licence: str) -> bool:
    """Whether a licence permits what apflow does with a dependency: install it, and import it."""
    return bool(PERMISSIVE.search(licence)) or any(each in licence for each in REPLACEABLE)


def pth_faults(site_packages: Path) -> Iterator[str]:
    """Yield the distributions that bring a `.pth` file, which runs code whenever Python starts."""
    for record in sorted(site_packages.glob("*.dist-info/RECORD")):
        name = record.parent.name.partition("-")[0].replace("_", "-").lower()
        with record.open(newline="") as lines:
            files = [row[0] for row in csv.reader(lines) if row and row[0].endswith(".pth")]
        if files and name not in KNOWN_PTH:
            yield f"{name} brings {', '.join(files)}, which runs whenever Python starts"


def audit() -> list[str]:
    """Ask PyPI for known vulnerabilities of all pinned versions.

    Without `--strict`, pip-audit finds nothing wrong with versions that PyPI did not answer for.
    """
    faults: list[str] = []
    for installation in installations():
        command = ["pip-audit", "--strict", "--disable-pip", "--no-deps", "--progress-spinner=off", "-r"]
        finished = subprocess.run([*command, installation.constraints], check=False)
        if finished.returncode != 0:
            faults.append(
                f"{installation.constraints.name} is not known to be good: pip-audit lists vulnerable"
                " versions above, or could not ask https://pypi.org about all, which needs the network."
            )
    return faults


COMMANDS = {"build": lambda: build(DIST), "sbom": sbom, "licences": licences, "audit": audit}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=COMMANDS)
    return report(COMMANDS[parser.parse_args().command]())


if __name__ == "__main__":
    sys.exit(main())
