"""Runs the tests on every Python of the matrix that this machine has, and says which ones those were."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tomllib
from collections.abc import Sequence

from repository import ROOT, report


def matrix() -> list[str]:
    environments = tomllib.loads((ROOT / "hatch.toml").read_text())["envs"]
    return list(environments["versions"]["matrix"][0]["python"])


def is_installed(version: str) -> bool:
    try:
        return (
            subprocess.run([f"python{version}", "-c", ""], capture_output=True, check=False).returncode == 0
        )
    except FileNotFoundError:
        return False


def passes(version: str, paths: Sequence[str]) -> bool:
    command = ["hatch", "run", f"versions.py{version}:test", *paths]
    return subprocess.run(command, check=False).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say which Pythons there are")
    parser.add_argument("--newest", action="store_true", help="only the newest of them")
    parser.add_argument("paths", nargs="*", help="what to test; default: everything")
    options = parser.parse_args()
    found = [version for version in matrix() if is_installed(version)]
    print(f"Of Python {', '.join(matrix())} this machine has: {', '.join(found)}")
    if options.check:
        return 0
    chosen = found[-1:] if options.newest else found
    failed = [version for version in chosen if not passes(version, options.paths)]
    return report([f"The tests fail on Python {version}" for version in failed])


if __name__ == "__main__":
    sys.exit(main())
