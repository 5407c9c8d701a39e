"""Removing containers: after each run, and those that dead processes of this host have left behind."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final

from docker.errors import APIError, NotFound

from apflow.core.process.identity import ForkLock
from apflow.executor.docker.connection import Line
from apflow.executor.docker.engine import Address, Client, asking, connected
from apflow.executor.docker.errors import DockerError
from apflow.executor.docker.owner import HOST, is_left, this_process

logger = logging.getLogger(__name__)

ATTEMPTS: Final = 3
WAIT_SECONDS: Final = 0.2

_lock = ForkLock()  # guards both below
_active: set[str] = set()  # the current runs of this process
_swept: set[tuple[str, int]] = set()  # engines, each with the process that has looked there


@contextmanager
def active(run: str) -> Generator[None]:
    """Keep a run's container from being swept."""
    with _lock.lock:
        _active.add(run)
    try:
        yield
    finally:
        with _lock.lock:
            _active.discard(run)


def sweep_once(client: Client) -> None:
    """Sweep, unless this process has done so at this engine, and nothing has been left since."""
    key = client.address.url, os.getpid()
    with _lock.lock:
        if key in _swept:
            return
        _swept.add(key)
    try:
        sweep(client)
    except DockerError as error:
        sweep_again(client.address)
        logger.warning("Containers that were left behind are not removed yet: %s", error)


def sweep(client: Client) -> int:
    """Remove what processes of this host, this one included, have left behind; return how many that are.

    Raises:
        DockerError: the engine refuses, or does not answer.
    """
    here, removed = this_process(), 0
    with asking(client.address, "list containers"):
        found = client.containers(f"{HOST}={here.host}")
    with _lock.lock:
        going_on = frozenset(_active)
    for each in found:
        if is_left(each.get("Labels") or {}, each.get("State", ""), here, going_on):
            _remove(client, each["Id"])
            removed += 1
            logger.info("Container %s was left behind by a process that has ended: removed.", each["Id"][:12])
    return removed


def remove(address: Address, container: str, *, wait_seconds: float = 0) -> None:
    """Remove a container, whatever its state, with its anonymous volumes, over a new connection.

    A failure is logged, and the next use of the engine tries again.

    Args:
        container: id or name.
        wait_seconds: how long to wait for the container if the engine may still be creating it.
    """
    try:
        with connected(address, Line()) as client:
            _remove(client, container, time.monotonic() + wait_seconds)
    except DockerError as error:
        sweep_again(address)
        logger.warning("Container %s is not removed yet: %s", container[:12], error)


def _remove(client: Client, container: str, appears_until: float = 0.0) -> None:
    with asking(client.address, f"remove container {container[:12]}"):
        while time.monotonic() < appears_until and not client.exists(container):
            time.sleep(WAIT_SECONDS)
        for left in reversed(range(ATTEMPTS)):
            try:
                client.remove(container)
            except NotFound:
                return
            except APIError as error:
                is_being_removed = error.status_code == 409
                if not left and not is_being_removed:
                    raise
                time.sleep(WAIT_SECONDS)
            else:
                return


def sweep_again(address: Address) -> None:
    """Make the next use of an engine begin with a sweep: something of this process may be left there."""
    with _lock.lock:
        _swept.discard((address.url, os.getpid()))
