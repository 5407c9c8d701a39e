"""The command: measures the rows one after the other, each in a separate process, and prints a table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict

from apflow.core.engine.gc_tuning import tune_process
from benchmarks.line import Line, table
from benchmarks.rows import rows


def main() -> int:
    """Measure the rows that were asked for; print them as a table, or as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("row", nargs="*", help="rows to measure, by name or its beginning; all without one")
    parser.add_argument("--quick", action="store_true", help="small sizes, seconds instead of minutes")
    parser.add_argument(
        "--json", action="store_true", help="one line of JSON per figure instead of the table"
    )
    parser.add_argument(
        "--here", action="store_true", help="measure in this process, as JSON (used by the command)"
    )
    arguments = parser.parse_args()
    names = chosen(rows(arguments.quick), arguments.row)
    if not names:
        parser.error(f"no row begins with that; the rows are: {', '.join(rows(arguments.quick))}")
    if arguments.here:
        tune_process()  # as `apflow serve`, `apflow worker` and the commands that run a tree do
        print_json(line for name in names for line in rows(arguments.quick)[name]())
        return 0
    measured = {name: measured_apart(name, arguments.quick) for name in names}
    lines = [line for each in measured.values() for line in each]
    if arguments.json:
        print_json(lines)
    else:
        print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} processors\n")
        print(table(lines))
    failed = [name for name, each in measured.items() if not each]
    if failed:
        print(f"could not be measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def chosen(names: Iterable[str], wanted: list[str]) -> list[str]:
    """Return the rows whose names are wanted, exactly if there is one, else by their beginning."""
    known = list(names)
    return [
        name
        for name in known
        if not wanted or any(name == each or (each not in known and name.startswith(each)) for each in wanted)
    ]


def measured_apart(name: str, is_quick: bool) -> list[Line]:
    """Measure one row in a separate process, so that no row inherits another's memory or caches.

    A row that fails has no lines; its traceback is on stderr, and the others are measured all the same.
    """
    print(f"measuring {name} ...", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks", "--here", *(["--quick"] if is_quick else []), name]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    return [Line(**json.loads(line)) for line in done.stdout.splitlines()] if done.returncode == 0 else []


def print_json(lines: Iterable[Line]) -> None:
    """Print each figure as one line of JSON."""
    for line in lines:
        print(json.dumps(asdict(line)))


if __name__ == "__main__":
    sys.exit(main())
