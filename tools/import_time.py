"""Checks what the first moments of the program import: that is what `--version` and `--help` cost.

It looks at modules, not milliseconds, so it says the same on every machine. The benchmarks measure time.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys

from repository import report

SLOW = {"asyncio", "duckdb", "httpx", "importlib.metadata", "pydantic", "rich", "sqlalchemy", "yaml"}
START = "import sys; sys.argv = ['apflow', {}]; from apflow.cli import main; sys.exit(main())"
# What a shell calls to complete the ID of a task; nothing listens at that address.
COMPLETE = (
    "import os; os.environ |= {'_APFLOW_COMPLETE': 'bash_complete', 'COMP_WORDS': 'apflow tasks get ', "
    "'COMP_CWORD': '3', 'APFLOW_API_URL': 'http://127.0.0.1:1'}; "
    "import sys; sys.argv = ['apflow']; from apflow.cli import main; sys.exit(main())"
)
PROGRAMS = {
    "apflow --version": START.format("'--version'"),
    "apflow --help": START.format("'--help'"),
    "completing an ID": COMPLETE,
    "import apflow.core": "import apflow.core",
    "apflow tasks list": f"import os; os.environ['APFLOW_DATABASE_URL'] = 'memory://'; {START}".format(
        "'tasks', 'list'"
    ),
}
NEEDED = {"apflow tasks list": {"asyncio"}}


def imported_by(program: str) -> set[str]:
    """Every module that a fresh interpreter imports for this program."""
    command = [sys.executable, "-X", "importtime", "-c", program]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise SystemExit(f"{program!r} ended with {finished.returncode}:\n{finished.stderr[-2000:]}")
    return set(re.findall(r"(?m)^import time:.*\|\s+(\S+)$", finished.stderr))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="what this tool does anyway")
    parser.parse_args()
    faults: list[str] = []
    for name, program in PROGRAMS.items():
        found = sorted((imported_by(program) & SLOW) - NEEDED.get(name, set()))
        faults += [f"{name} imports {module}" for module in found]
    return report(faults, "Import it where it is used: inside the function, or on first use of the name.")


if __name__ == "__main__":
    sys.exit(main())
