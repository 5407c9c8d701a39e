"""Trees that are submitted with `--background`: a daemon runs them if no other process would."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final

import click

from apflow.cli.display.output import write_note
from apflow.cli.inputs.options import session_of
from apflow.cli.session.daemon_control import start_daemon
from apflow.cli.session.daemon_files import RUNNING, DaemonFiles
from apflow.cli.session.holder import ServingHolder, find_holder
from apflow.cli.session.work import perform, server_of
from apflow.core.bounds import MAX_SECONDS
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json
from apflow.core.service.task_service import TaskService
from apflow.core.settings import get_settings
from apflow.core.store.session import get_default_session

TAKEN_SECONDS: Final = 3.0  # in which a worker takes a submitted tree
INTERVAL_SECONDS: Final = 0.1


def start_daemon_if_needed(ctx: click.Context, roots: Sequence[Mapping[str, Json]]) -> None:
    """Start the daemon of the database unless a worker, a server or the daemon runs submitted trees.

    While another process holds the database that does not run submitted trees, the daemon waits for its end.

    Args:
        roots: the trees, each with `root_task_id` and `status`. A repeated submission may return ended trees.

    Raises:
        DaemonFailedError: it has not started. The trees stay requested.
    """
    waiting = [each["root_task_id"] for each in roots if not TaskStatus.is_terminal(each["status"])]
    session, db = session_of(ctx), get_default_session()
    is_possible = sys.platform != "win32" and db.capabilities.is_durable
    if not waiting or not is_possible or server_of(session) or not get_settings().background_daemon:
        return
    files = DaemonFiles(db)
    holder = find_holder()
    if files.is_locked() or isinstance(holder, ServingHolder):
        return
    if (holder is not None or db.capabilities.is_shared) and _is_taken(ctx, waiting[-1]):
        return
    wait_lock = session.wait_lock if find_holder() is None else MAX_SECONDS
    state, is_new = start_daemon(files, session.modules, wait_lock, may_wait=wait_lock == MAX_SECONDS)
    if is_new and state.state == RUNNING:
        write_note(f"The daemon runs it (started as process {state.pid}; apflow daemon stop ends it).")
    elif is_new:
        write_note(
            f"The daemon (started as process {state.pid}) runs it when the process has ended that holds the "
            "database."
        )


def _is_taken(ctx: click.Context, root_id: str) -> bool:
    """Return whether another process begins to run a tree soon."""

    async def work(service: TaskService) -> bool:
        until = time.monotonic() + TAKEN_SECONDS
        while time.monotonic() < until:
            if (await service.get(root_id))["status"] != "pending":
                return True
            await asyncio.sleep(INTERVAL_SECONDS)  # also while no event is published
        return False

    return perform(ctx, work)
