"""Copies into every package what all of them share: the licence, the typing marker, the version."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from repository import ROOT, UMBRELLA, Package, packages, report


def version_now() -> str:
    """The version of the core, which every other package follows."""
    return str(Package(ROOT / "packages" / "apflow-core").project["version"])


def with_version(text: str, version: str) -> str:
    """The text of a `pyproject.toml` with its version, and those of its siblings, set."""
    text = re.sub(r'(?m)^version = ".*"$', f'version = "{version}"', text, count=1)
    siblings = rf'"((?:apflow-[a-z0-9-]+|{UMBRELLA})(?:\[[a-z0-9,-]+\])?)(~=|==)[^"]*"'
    return re.sub(siblings, rf'"\g<1>\g<2>{version}"', text)


def wanted_files(package: Package, version: str) -> dict[Path, str]:
    pyproject, release = package.folder / "pyproject.toml", package.module_folder / "release.py"
    wanted = {
        package.folder / "LICENSE": (ROOT / "LICENSE").read_text(),
        package.module_folder / "py.typed": "",
        pyproject: with_version(pyproject.read_text(), version),
    }
    if release.is_file():  # where the version is needed without reading metadata
        wanted[release] = re.sub(r'(?m)^VERSION = ".*"$', f'VERSION = "{version}"', release.read_text())
    return wanted


def out_of_step(version: str) -> dict[Path, str]:
    """Each file that differs from what it should be, with what it should be."""
    wanted = {file: text for package in packages() for file, text in wanted_files(package, version).items()}
    return {file: text for file, text in wanted.items() if not file.is_file() or file.read_text() != text}


def write(files: dict[Path, str]) -> None:
    for file, text in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say what differs")
    differing = out_of_step(version_now())
    if parser.parse_args().check:
        faults = [f"{file.relative_to(ROOT)} is out of step" for file in differing]
        return report(faults, "Run: hatch run dev:python tools/sync.py")
    write(differing)
    return 0


if __name__ == "__main__":
    sys.exit(main())
