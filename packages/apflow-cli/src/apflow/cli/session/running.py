"""Run one tree for a command: live view, time limit, written outcome and exit code."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, nullcontext
from functools import partial
from pathlib import Path
from typing import NoReturn, TypeVar, cast

from apflow.cli.display import live
from apflow.cli.display.outcome import write_outcome
from apflow.cli.display.output import one_line, save_json, write_json, write_note
from apflow.cli.display.times import clock
from apflow.cli.errors.exit_code import OF_STATUS, ExitCode
from apflow.cli.inputs.options import finish
from apflow.cli.session.signals import Draining, runs_drained_on_signal
from apflow.cli.session.webhooks import delivered_here
from apflow.core.authoring.array_validation import check_array, refused
from apflow.core.authoring.run_check import check_runnable
from apflow.core.capture.clean_output import clean_output
from apflow.core.engine.placement import is_known_for, workers_seen
from apflow.core.events.telemetry import traced
from apflow.core.model.event import EventType
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json
from apflow.core.service.task_service import TaskService
from apflow.core.service.trees import as_array
from apflow.core.settings import get_settings
from apflow.core.store.base import TaskStore
from apflow.core.task_executor import add_up
from apflow.core.webhooks.defaults import check_defaults

LAST_EVENTS = 5.0  # seconds that the events of a run may take after its end

Result = TypeVar("Result")
Work = Callable[[TaskService], Awaitable[Result]]
RunResult = dict[str, Json]  # what a service's `execute` returns, with the whole tree as `root`


async def check_before_run(service: TaskService, trees: Sequence[Json]) -> None:
    """Check that tasks can run, before anything is stored.

    Trees that a server runs are not checked here: the server may have other executors.

    Raises:
        TreeInvalidError: a tree is invalid, an executor does not exist, or inputs are invalid.
    """
    if type(service) is not TaskService:
        return
    check_defaults(get_settings())
    await workers_seen(service.db).look(service.db)
    found: list[str] = []
    for tree in trees:
        tasks = check_array(as_array(tree), get_settings())
        found += check_runnable(tasks, is_known=is_known_for(service.db))
    if found:
        raise refused(found)


async def run_tree(
    service: TaskService,
    task_id: str,
    *,
    force: bool = False,
    no_cache: bool = False,
    seconds: float | None = None,
    is_watched: bool = False,
    webhook_config: dict[str, Json] | None = None,
) -> RunResult:
    """Execute a task's tree, show it live on a terminal, and return its outcome.

    SIGTERM and SIGHUP drain a run of this process; the outcome of one that was given up so has the signal as
    `interrupted_by`.

    Args:
        is_watched: write each event as a line to standard error, instead of the live view.
        webhook_config: where the events of the run are sent.

    Raises:
        TimeoutError: it took longer than `seconds`, and was cancelled.
    """
    root = await service.tree(task_id) if live.is_wanted() and not is_watched else None

    def run() -> Awaitable[RunResult]:
        return _clean(service.run(task_id, force=force, no_cache=no_cache, webhook_config=webhook_config))

    work: Awaitable[RunResult]
    if is_watched:
        work = watched(service, task_id, run)
    else:
        work = run() if root is None else live.shown(service, root, run)
    limit = asyncio.timeout(seconds)
    try:
        with drained_on_signal(service) as draining:
            async with delivered_here(service, [task_id], has_webhook=webhook_config is not None), limit:
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


async def _clean(run: Awaitable[RunResult]) -> RunResult:
    """Wait for a run, and keep what its tasks print away from standard output."""
    with clean_output():
        return await run


def drained_on_signal(service: TaskService) -> AbstractContextManager[Draining]:
    """Drain the local runs of a service on signals. Runs of a server do not depend on this process."""
    db: TaskStore | None = getattr(service, "db", None)
    return nullcontext(Draining()) if db is None else runs_drained_on_signal(db)


def with_traces(work: Work[Result]) -> Work[Result]:
    """Return work that also sends traces of the trees that it runs here; a server sends its own."""

    async def traced_work(service: TaskService) -> Result:
        if type(service) is not TaskService:
            return await work(service)
        async with traced(service.db, get_settings()):
            return await work(service)

    return traced_work


async def run_each(
    service: TaskService,
    trees: Sequence[Json],
    *,
    user_id: str | None,
    seconds: float | None,
    is_watched: bool,
    webhook_config: dict[str, Json] | None = None,
    no_cache: bool = False,
) -> RunResult:
    """Create several trees, run them at the same time, and return what they add up to, each under `trees`."""
    created = [await service.create(each, user_id=user_id) for each in trees]
    root_ids = [each["id"] for each in created]
    with drained_on_signal(service), clean_output():
        async with (
            delivered_here(service, root_ids, has_webhook=webhook_config is not None),
            asyncio.TaskGroup() as group,
        ):
            running = [
                group.create_task(
                    _run_silently(
                        service,
                        each["id"],
                        seconds=seconds,
                        is_watched=is_watched,
                        webhook_config=webhook_config,
                        no_cache=no_cache,
                    ),
                    name=f"apflow:run:{each['id']}",
                )
                for each in created
            ]
    outcomes = [each.result() | {"ids": root["ids"]} for each, root in zip(running, created, strict=True)]
    return add_up(outcomes)


async def _run_silently(
    service: TaskService,
    task_id: str,
    *,
    seconds: float | None,
    is_watched: bool,
    webhook_config: dict[str, Json] | None,
    no_cache: bool,
) -> RunResult:
    """Run one of several trees: they cannot all be shown live."""
    try:
        async with asyncio.timeout(seconds):
            run = partial(service.run, task_id, no_cache=no_cache, webhook_config=webhook_config)
            outcome = await (watched(service, task_id, run) if is_watched else run())
    except TimeoutError as error:
        raise TimeoutError(
            f"Tree {task_id} took longer than {seconds:g} s (--timeout), and was cancelled."
        ) from error
    return outcome | {"root": await service.tree(task_id)}


async def watched(service: TaskService, task_id: str, run: Callable[[], Awaitable[RunResult]]) -> RunResult:
    """Run a tree that has not run, and write its events to standard error meanwhile.

    Args:
        run: starts the run and waits for its end.
    """
    is_ready = asyncio.Event()
    watching = asyncio.create_task(_write_events(service, task_id, is_ready), name=f"apflow:watch:{task_id}")
    try:
        await is_ready.wait()
        outcome = await run()
        await asyncio.wait({watching}, timeout=LAST_EVENTS)
    finally:
        watching.cancel()
        await asyncio.wait({watching})
    return outcome


async def _write_events(service: TaskService, task_id: str, is_ready: asyncio.Event) -> None:
    """Write the events of a tree that has not run.

    Args:
        is_ready: is set when no event of a run that starts from then on is missed.
    """
    try:
        async with aclosing(service.watch(task_id)) as events:
            async for event in events:
                is_ready.set()  # with the snapshot
                if event["type"] != "snapshot":
                    for line in event_lines(event):
                        write_note(line, wraps=False)
    finally:
        is_ready.set()


def event_lines(event: Mapping[str, Json]) -> list[str]:
    """Return the lines for an event: one, or one for each line that a task has logged."""
    given: Json = event.get("data")
    data = cast("dict[str, Json]", given) if isinstance(given, dict) else {}
    logged, total = data.get("lines"), data.get("count")
    if event["type"] != EventType.LOG or not isinstance(total, int):
        return [event_line(event)]
    if not isinstance(logged, list) or not all(_is_logged(each) for each in cast("list[Json]", logged)):
        return [event_line(event)]
    shown = [event_line({**event, **each}) for each in cast("list[dict[str, Json]]", logged)]
    missing = total - len(shown)
    if missing > 0 and shown:
        shown.insert(0, event_line({**event, "message": f"{missing} lines before these: see `apflow logs`"}))
    return shown or [event_line(event)]


def _is_logged(line: Json) -> bool:
    return isinstance(line, dict) and {"timestamp", "message"} <= cast("dict[str, Json]", line).keys()


def event_line(event: Mapping[str, Json]) -> str:
    """Return one line for an event."""
    time = clock(str(event["timestamp"]))
    progress = "" if event.get("progress") is None else f" {event['progress']:.0%}"
    said = event.get("error") or event.get("message")
    key = event.get("key", event["task_id"])  # not sent by an earlier server
    task = event["task_id"] if key == event["task_id"] else f"{key} {event['task_id']}"
    return one_line(f"{time} {event['type']} {task}{progress}{f': {said}' if said else ''}")


def _became(task_id: str, stopped: BaseException | None) -> str:
    """Describe the outcome of a stopped run. A service adds a note to the error if it could not cancel."""
    notes: list[str] = getattr(stopped, "__notes__", [])
    return f"{' '.join(notes) or 'It was cancelled.'} `apflow tasks tree {task_id}` shows how far it came."


def write_and_exit(result: RunResult, *, is_json: bool, output: Path | None) -> NoReturn:
    """Write the result of a run, and end the command with the exit code for it."""
    if output is not None:
        save_json(output, result)
    if is_json:
        write_json(result)
    else:
        write_outcome(result)
        if result["status"] == "failed" and "trees" not in result and sys.stderr.isatty():
            root_id = result["root_task_id"]
            write_note(f"Try: apflow tasks why {root_id}, or apflow logs {root_id}")
    if "interrupted_by" in result:
        finish(128 + signal.Signals[result["interrupted_by"]])
    finish(OF_STATUS.get(result["status"], ExitCode.FAILED))
