"""Runs every suite that the merge checks leave out, one after the other, and prints one verdict.

Each suite has a time limit, and so have all of them together. A suite that fails or exceeds its limit does
not stop the others. A suite that is not run for lack of time counts as failed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from repository import ROOT, report

TOTAL_MINUTES = 80.0
GRACE_SECONDS = 20.0  # between SIGTERM and SIGKILL


@dataclass(frozen=True)
class Suite:
    """A command and its time limit in minutes."""

    name: str
    command: Sequence[str]
    minutes: float
    environment: Mapping[str, str] = field(default_factory=dict[str, str])


SUITES = (
    Suite("faults", ("hatch", "run", "faults"), 40, {"APFLOW_FAULT_CAMPAIGNS": "3"}),
    Suite("long", ("hatch", "run", "long"), 25),
    Suite("pages", ("hatch", "run", "pages"), 20),
    Suite("resolve", ("hatch", "run", "resolve"), 20),
    Suite("bench", ("hatch", "run", "bench"), 15),
    # The tests between packages take as long again as those of the packages, and run before each merge.
    Suite("floors", ("hatch", "run", "floors:test", "packages"), 20),
    # The oldest Python is the one of the merge checks, and of floors.
    Suite("versions", ("hatch", "run", "versions", "--newest", "packages"), 20),
)


def run(suite: Suite, seconds: float) -> str:
    """Run a suite for at most `seconds`; return why it failed, or an empty string."""
    print(f"\n== {suite.name}: {' '.join(suite.command)} (at most {seconds / 60:.0f} min)", flush=True)
    # A new session: the processes that the suite has started end with it.
    process = subprocess.Popen(
        suite.command, cwd=ROOT, env={**os.environ, **suite.environment}, start_new_session=True
    )
    try:
        code = process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        end(process)
        return f"exceeded its limit of {seconds / 60:.0f} minutes"
    except BaseException:
        end(process)
        raise
    return f"exit status {code}" if code else ""


def end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main() -> int:
    names = [suite.name for suite in SUITES]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=names, help="run this suite; may be repeated")
    parser.add_argument("--minutes", type=float, default=TOTAL_MINUTES, help="limit for all suites")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # ends the suite that runs, too
    deadline = time.monotonic() + options.minutes * 60
    failures: list[str] = []
    lines: list[str] = []
    for suite in SUITES:
        if options.only and suite.name not in options.only:
            continue
        started = time.monotonic()
        seconds = min(suite.minutes * 60, deadline - started)
        failure = run(suite, seconds) if seconds > 0 else "not run: the time limit of all suites was reached"
        minutes = (time.monotonic() - started) / 60
        lines.append(f"  {suite.name:10} {failure or 'passed'} ({minutes:.1f} min)")
        if failure:
            failures.append(f"{suite.name}: {failure}")
    print("\n== verdict", *lines, "FAILED" if failures else "PASSED", sep="\n")
    return report(failures)


if __name__ == "__main__":
    sys.exit(main())
