"""A worker as a process: of `apflow worker` and of the daemon."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

from apflow.cli.session.signals import drain_on_signal
from apflow.core.capture.clean_output import clean_output
from apflow.core.engine.worker import Worker
from apflow.core.events.telemetry import traced
from apflow.core.service.task_service import TaskService
from apflow.core.settings import check_setting, get_settings
from apflow.core.webhooks.defaults import check_defaults
from apflow.core.webhooks.delivery import delivering


async def run_worker(
    service: TaskService,
    when_ready: Callable[[], object],
    offered: Mapping[str, tuple[str, str | None]] | None = None,
) -> None:
    """Run what is submitted, deliver the webhooks of it and send its traces, until a signal comes.

    Args:
        when_ready: called before the first tree is taken.
        offered: option -> the setting that it replaces, and its value; None: no setting is replaced.

    Raises:
        SettingsError: a setting for the webhooks of every run or for what the worker offers is invalid, or
            what sends traces is missing.
    """
    check_defaults(get_settings())
    settings = get_settings()
    for option, (name, value) in (offered or {}).items():
        if value is not None:
            settings = replace(settings, **cast("Any", {name: check_setting(name, value, option)}))
    worker = Worker(service.db, settings)
    with drain_on_signal(worker.drain), clean_output():
        async with traced(service.db, get_settings()), delivering(service.db, get_settings()):
            when_ready()
            await worker.run()
