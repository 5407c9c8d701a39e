"""Webhooks of the runs of a command: their configuration, and their delivery while the command runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import click

from apflow.cli.display.output import write_note
from apflow.core.model.task import Json
from apflow.core.planning.run_start import has_unended_run
from apflow.core.service.task_service import TaskService
from apflow.core.settings import get_settings
from apflow.core.store.base import TaskStore
from apflow.core.webhooks.defaults import named_by
from apflow.core.webhooks.delivery import Delivery, check_available, delivering
from apflow.core.webhooks.registration import check_config

LAST_SECONDS: Final = 10.0  # that the last events of a run may take after its end, and
CANCELLED_SECONDS: Final = 2.0  # after Ctrl-C
POLL_INTERVAL_SECONDS: Final = 0.05


def webhook_config(webhook: str | None, on_failure: str | None) -> dict[str, Json] | None:
    """Return the configuration of the webhook that the options describe; None if they describe none.

    Raises:
        click.UsageError: both options are given.
    """
    if webhook is not None and on_failure is not None:
        raise click.UsageError(
            "Give either --webhook or --on-failure. "
            "To use both, set APFLOW_WEBHOOK_URL or APFLOW_ON_FAILURE_URL."
        )
    if webhook is None and on_failure is None:
        return None
    config: dict[str, Json] = {"url": webhook if webhook is not None else on_failure}
    if on_failure is not None:
        config["events"] = ["tree_failed"]
    if get_settings().webhook_secret:
        config["secret"] = get_settings().webhook_secret
    return config


async def check_webhook(service: TaskService, config: dict[str, Json] | None) -> None:
    """Check a webhook before anything is stored. The process that runs the tree checks the address.

    Raises:
        InvalidInputError: the configuration is invalid, or nothing here delivers webhooks.
    """
    if config is None:
        return
    if type(service) is TaskService:
        check_available()
        await check_config(config, service.author)
    else:
        from apflow.core.webhooks.webhook import read_config

        read_config(config)


@asynccontextmanager
async def delivered_here(
    service: TaskService, task_ids: Sequence[str], *, has_webhook: bool
) -> AsyncGenerator[None]:
    """Deliver the events of the runs in this context to their webhooks, and wait a moment for the last ones.

    Does nothing if another process runs the trees, or if the runs have no webhooks.
    """
    settings = get_settings()
    if type(service) is not TaskService or not (has_webhook or named_by(settings)):
        yield
        return
    async with delivering(service.db, settings) as delivery:
        try:
            yield
        except asyncio.CancelledError:
            await _wait_for_last(service.db, delivery, task_ids, CANCELLED_SECONDS)
            raise
        except TimeoutError:
            await _wait_for_last(service.db, delivery, task_ids, LAST_SECONDS)
            raise
        await _wait_for_last(service.db, delivery, task_ids, LAST_SECONDS)


async def _wait_for_last(
    db: TaskStore, delivery: Delivery | None, task_ids: Sequence[str], seconds: float
) -> None:
    """Wait until the events of ended runs are delivered; after so many seconds, report what is left."""
    deadline = time.monotonic() + seconds
    while left := await _undelivered(db, task_ids):
        if delivery is None or time.monotonic() > deadline:
            reason = "apflow-server is not installed here" if delivery is None else left[0]
            write_note(
                f"Events for {len(left)} of the webhooks are not delivered yet: {reason}. "
                "`apflow worker` or `apflow serve` on this database delivers them."
            )
            return
        delivery.wake()
        await asyncio.sleep(POLL_INTERVAL_SECONDS)


async def _undelivered(db: TaskStore, task_ids: Sequence[str]) -> list[str]:
    """Return why events of ended runs are not delivered, for each webhook that waits for some."""
    from apflow.core.store.tree_records import keys_of
    from apflow.core.webhooks.kinds import KIND
    from apflow.core.webhooks.webhook import Webhook

    root_ids = {task.root_id for task in (await db.get(list(task_ids))).values()}
    roots = await db.get(list(root_ids))
    return [
        Webhook.of(record).error or "the receiver has not answered yet"
        for root in roots.values()
        if not has_unended_run(root)
        for record in await db.records(KIND, prefix=keys_of(root.id))
    ]
