"""The versions that development and CI install: `constraints.txt`, compiled by uv for every Python at once.

It names versions only, never a registry, so that it works behind any index.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tomllib
from pathlib import Path

from repository import ROOT, is_first_party, packages, report, requirement_name

FILE = ROOT / "constraints.txt"


def wanted() -> list[str]:
    """Every third-party requirement of the packages and of the environments."""
    found = {"hatchling"}
    for package in packages():
        found.update(each for each in package.all_requirements if not is_first_party(each))
    environments = tomllib.loads((ROOT / "hatch.toml").read_text())["envs"]
    for environment in environments.values():
        found.update(environment.get("dependencies", []) + environment.get("extra-dependencies", []))
    return sorted(found)


def compile_versions(requirements: list[str], into: Path) -> None:
    command = ["uv", "pip", "compile", "-", "--quiet", "--universal", "--python-version", "3.11", "--upgrade"]
    shown = ["--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "-o", str(into)]
    subprocess.run([*command, *shown], input="\n".join(requirements), text=True, check=True)


def check(text: str, requirements: list[str]) -> list[str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    pinned = {requirement_name(line) for line in lines if "==" in line}
    faults = [
        f"constraints.txt: {line!r} is not a pinned version"
        for line in lines
        if "==" not in line or "://" in line
    ]
    missing = sorted({requirement_name(each) for each in requirements} - pinned)
    return faults + [f"constraints.txt: {name} is missing" for name in missing]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say what is missing")
    if parser.parse_args().check:
        return report(check(FILE.read_text(), wanted()), "Run: hatch run dev:python tools/constraints.py")
    compile_versions(wanted(), FILE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
