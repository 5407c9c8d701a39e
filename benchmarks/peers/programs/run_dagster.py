"""Dagster: a job of ops, in one process, with an instance on disk (SQLite)."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from dagster import DagsterInstance, In, JobDefinition, Nothing, job, op
from shapes import timed


@op
def first() -> int:
    """Return a small result."""
    return 1


@op
def after(_before: int) -> int:
    """Return a small result, after another op."""
    return 1


@op(ins={"done": In(Nothing)})
def last() -> int:
    """Return a small result, after all the others."""
    return 1


@cache
def made(shape: str, size: int) -> JobDefinition:
    """Return the job of a shape."""

    @job
    def tree() -> None:
        if shape == "fan":
            last([first.alias(f"task_{number}")() for number in range(size)])
            return
        value = first()
        for number in range(1, size):
            value = after.alias(f"task_{number}")(value)

    return tree


def run(shape: str, size: int) -> int:
    """Run the job."""
    done = made(shape, size).execute_in_process(instance=INSTANCE, run_config=QUIET)
    return sum(each.is_step_success for each in done.all_events)


QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
home = Path("dagster").resolve()
home.mkdir(exist_ok=True)
INSTANCE = DagsterInstance.local_temp(str(home))
timed("dagster", run)
