"""A worker as a process: of `apflow worker` and of the daemon."""

from __future__ import annotations

from collections.abc import Callable

from apflow.cli.session.signals import drain_on_signal
from apflow.core.capture.clean_output import clean_output
from apflow.core.engine.worker import Worker
from apflow.core.events.telemetry import traced
from apflow.core.service.task_service import TaskService
from apflow.core.settings import get_settings
from apflow.core.webhooks.defaults import check_defaults
from apflow.core.webhooks.delivery import delivering


async def run_worker(service: TaskService, when_ready: Callable[[], object]) -> None:
    """Run what is submitted, deliver the webhooks of it and send its traces, until a signal comes.

    Args:
        when_ready: called before the first tree is taken.

    Raises:
        SettingsError: a setting for the webhooks of every run is invalid, or what sends traces is missing.
    """
    check_defaults(get_settings())
    worker = Worker(service.db)
    with drain_on_signal(worker.drain), clean_output():
        async with traced(service.db, get_settings()), delivering(service.db, get_settings()):
            when_ready()
            await worker.run()
