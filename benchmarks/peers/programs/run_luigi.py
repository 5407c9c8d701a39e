"""Luigi: tasks whose targets are files, with the local scheduler."""

from __future__ import annotations

import itertools
from pathlib import Path

import luigi
from shapes import timed

RUNS = itertools.count()


class Numbered(luigi.Task):
    """A task with a file, which says that it has ended."""

    run_number = luigi.IntParameter()
    number = luigi.IntParameter()

    def output(self) -> luigi.LocalTarget:
        """Return the file."""
        return luigi.LocalTarget(f"luigi/{self.run_number}/{self.number}")

    def run(self) -> None:
        """Write a small result."""
        with self.output().open("w") as file:
            file.write("1")


class Chained(Numbered):
    """A task that needs the one before it."""

    def requires(self) -> list[luigi.Task]:
        """Return the task before."""
        return [Chained(self.run_number, self.number - 1)] if self.number else []


class Last(Numbered):
    """A task that needs all tasks of a fan."""

    def requires(self) -> list[luigi.Task]:
        """Return the others."""
        return [Numbered(self.run_number, number) for number in range(self.number)]


def run(shape: str, size: int) -> int:
    """Run the task that needs all the others."""
    number = next(RUNS)
    root = Last(number, size) if shape == "fan" else Chained(number, size - 1)
    luigi.build([root], local_scheduler=True, log_level="CRITICAL", no_lock=True)
    return len(list(Path(f"luigi/{number}").iterdir()))


timed("luigi", run)
