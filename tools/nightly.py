"""Runs the suites that no merge runs, one after the other, and prints one verdict on all of them.

Each suite has a time limit, and so have all together. A suite that fails does not keep the others from
running. The output of each goes to a file. The exit status is 0 only if every suite has passed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from repository import ROOT

TOTAL = 80.0  # minutes
TERMINATE_SECONDS = 10.0  # between the request to end and the kill
TAIL = 30  # lines of the output of a suite that has not passed


@dataclass(frozen=True)
class Suite:
    """One command, and the minutes that it may take. All together have no more than the total."""

    name: str
    command: Sequence[str]
    minutes: float


@dataclass(frozen=True)
class Verdict:
    """How a suite ended."""

    suite: Suite
    outcome: str
    minutes: float

    @property
    def has_passed(self) -> bool:
        return self.outcome == "passed"


THIS_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
SUITES = (
    Suite("faults", ["hatch", "run", "faults", "-q", "--durations=10"], 50),
    Suite("long", ["hatch", "run", "long", "-q", "--durations=10"], 20),
    # The small sizes show that every row runs and what its ratio to its floor is. The full sizes are for a
    # quiet machine.
    Suite("bench", ["hatch", "run", "bench", "--quick"], 6),
    Suite("floors", ["hatch", "run", "floors:test", "-q"], 15),
    # Merges and `floors` have run this Python.
    Suite("versions", ["hatch", "run", "versions", "--without", THIS_PYTHON], 25),
)


def main() -> int:
    options = parse()
    suites = [each for each in SUITES if not options.only or each.name in options.only]
    logs = options.logs or Path(tempfile.mkdtemp(prefix="apflow-nightly-"))
    logs.mkdir(parents=True, exist_ok=True)
    print(f"The output of each suite is in {logs}.", flush=True)
    until = time.monotonic() + TOTAL * 60
    verdicts: list[Verdict] = []
    try:
        for suite in suites:
            verdict = run(suite, logs, until)
            verdicts.append(verdict)
    except KeyboardInterrupt:
        print("Interrupted.")
    return tell(suites, verdicts)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    names = [each.name for each in SUITES]
    parser.add_argument("--only", action="append", choices=names, metavar="SUITE",
                        help=f"run this suite; repeatable. One of: {', '.join(names)}")  # fmt: skip
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="where to write the output")
    return parser.parse_args()


def run(suite: Suite, logs: Path, until: float) -> Verdict:
    """Run a suite, within its limit and what is left of the total."""
    seconds = min(suite.minutes * 60, until - time.monotonic())
    if seconds <= 0:
        return Verdict(suite, "not run: no time was left", 0.0)
    print(f"{suite.name} ({' '.join(suite.command)}) ...", flush=True)
    log = logs / f"{suite.name}.txt"
    began = time.monotonic()
    with log.open("wb") as file:
        try:
            process = subprocess.Popen(
                suite.command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        except OSError as error:
            return Verdict(suite, f"not started: {error}", 0.0)
        outcome = outcome_of(process, seconds)
    verdict = Verdict(suite, outcome, (time.monotonic() - began) / 60)
    print(f"  {outcome}, {verdict.minutes:.1f} minutes", flush=True)
    if not verdict.has_passed:
        show_end(log)
    return verdict


def outcome_of(process: subprocess.Popen[bytes], seconds: float) -> str:
    """Wait for a process, and end its group if it takes too long."""
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        return f"stopped after {seconds / 60:.1f} minutes"
    finally:
        end(process)
    return "passed" if code == 0 else f"failed with exit status {code}"


def end(process: subprocess.Popen[bytes]) -> None:
    """End what is left of a process and its group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(TERMINATE_SECONDS)


def show_end(log: Path) -> None:
    with log.open(encoding="utf-8", errors="replace") as file:
        for line in deque(file, TAIL):
            print(f"  | {line.rstrip()}")
    sys.stdout.flush()


def tell(suites: Sequence[Suite], verdicts: Sequence[Verdict]) -> int:
    """Print the verdict, and return the exit status for it."""
    print()
    for each in verdicts:
        print(f"{each.suite.name:<10}{each.minutes:6.1f} min  {each.outcome}")
    for suite in suites[len(verdicts) :]:
        print(f"{suite.name:<10}            not run")
    failed = [each.suite.name for each in verdicts if not each.has_passed]
    failed += [each.name for each in suites[len(verdicts) :]]
    names = ", ".join(each.name for each in suites)
    print(f"\nFAILED: {', '.join(failed)}" if failed else f"\nPASSED: {names}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
