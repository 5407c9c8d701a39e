"""Running one tree from a command: shown live, bounded in time, its outcome written and told by exit code."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NoReturn

from apflow.cli import live
from apflow.cli.draining import Draining, runs_drained_on_signal
from apflow.cli.exitcode import OF_STATUS, ExitCode
from apflow.cli.options import finish
from apflow.cli.output import count, one_line, save_json, write_fields, write_json, write_note, write_tree
from apflow.core.service import TaskService
from apflow.core.states import TaskStatus
from apflow.core.store import TaskStore
from apflow.core.task import Json

MOST_TASKS = 200  # lines of a tree, and
MOST_CHARACTERS = 4000  # of a result, that a terminal is given unasked

Outcome = dict[str, Json]  # what a service's `execute` returns, with the whole tree as `root`


async def run_tree(
    service: TaskService, task_id: str, *, force: bool = False, seconds: float | None = None
) -> Outcome:
    """Execute a task's tree, show it live on a terminal, and return its outcome.

    SIGTERM and SIGHUP drain a run of this process; the outcome of one that was given up so has the signal as
    `interrupted_by`.

    Raises:
        TimeoutError: it took longer than `seconds`, and was cancelled.
    """
    root = await service.tree(task_id) if live.is_wanted() else None
    run = service.run(task_id, force=force)
    work = run if root is None else live.shown(service, root, run)
    limit = asyncio.timeout(seconds)
    try:
        with drained_on_signal(service) as draining:
            async with limit:
                outcome = await work
    except TimeoutError as error:
        if limit.expired():
            raise TimeoutError(
                f"The run took longer than {seconds:g} s (--timeout). {_became(task_id, error.__cause__)}"
            ) from error
        raise
    except asyncio.CancelledError as error:
        write_note(_became(task_id, error))
        raise
    if draining.signal is not None and not TaskStatus.is_terminal(outcome["status"]):
        advice = f"The run was given up: `apflow tasks resume {task_id}` continues it."
        write_note(f"{draining.signal.name}: {advice}")
        outcome |= {"interrupted_by": draining.signal.name}
    return outcome | {"root": await service.tree(task_id)}


def drained_on_signal(service: TaskService) -> AbstractContextManager[Draining]:
    """Let signals drain what a service runs in this process. A server's runs go on without this process."""
    db: TaskStore | None = getattr(service, "db", None)
    return nullcontext(Draining()) if db is None else runs_drained_on_signal(db)


def _became(task_id: str, stopped: BaseException | None) -> str:
    """Say what became of a run that was stopped: a service notes on the error what it could not cancel."""
    notes: list[str] = getattr(stopped, "__notes__", [])
    return f"{' '.join(notes) or 'It was cancelled.'} `apflow tasks tree {task_id}` shows how far it came."


def tell(outcome: Outcome, *, is_json: bool, output: Path | None) -> NoReturn:
    """Write an outcome, and end the command with the exit code for it."""
    if output is not None:
        save_json(output, outcome)
    if is_json:
        write_json(outcome)
    else:
        _write_for_people(outcome)
    if "interrupted_by" in outcome:
        finish(128 + signal.Signals[outcome["interrupted_by"]])
    finish(OF_STATUS.get(outcome["status"], ExitCode.FAILED))


def _write_for_people(outcome: Mapping[str, Json]) -> None:
    """Write the tree and what it came to; on a terminal, no more of them than a person reads."""
    is_terminal = sys.stdout.isatty()
    size = count(outcome["root"])
    if is_terminal and size > MOST_TASKS:
        write_note(f"{size} tasks; `apflow tasks tree {outcome['root']['id']}` shows them.")
    else:
        write_tree(outcome["root"])
    result = one_line(outcome["result"])
    if is_terminal and len(result) > MOST_CHARACTERS:
        result = f"{result[:MOST_CHARACTERS]}... (the whole: apflow tasks get {outcome['root']['id']})"
    shown = {name: outcome[name] for name in ("root_task_id", "status", "error")}
    write_fields(shown | {"result": result})
