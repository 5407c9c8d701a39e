"""Webhooks of every run: the receivers that the settings name.

Each is registered before the run is requested, as a record beside the tasks. So every process that runs trees
can deliver the events, also after a crash. The record names the setting; the URL and the secret stay in the
settings of the processes that deliver.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from apflow.core.errors import InvalidInputError, SettingsError
from apflow.core.model.event import EventType
from apflow.core.model.task import Task, utc_now
from apflow.core.settings import Settings
from apflow.core.store.base import TaskStore

if TYPE_CHECKING:  # pydantic is loaded only where webhooks are used
    from apflow.core.webhooks.webhook import Webhook

URL_SETTINGS: Final = ("webhook_url", "on_failure_url")
MAX_RETRIES: Final = 10


async def register_defaults(db: TaskStore, root: Task, settings: Settings) -> list[str]:
    """Store the webhooks that the settings name for a run that is about to be requested.

    Trees that tasks start get no webhooks: they belong to the run of those tasks.

    Returns:
        the keys of the new records, for `withdraw`.

    Raises:
        SettingsError: a setting of webhooks is invalid.
    """
    named = named_by(settings)
    if not named or root.spawned_by is not None:
        return []
    check_defaults(settings)
    from apflow.core.webhooks.kinds import KIND

    stored = (await db.get([root.id])).get(root.id)  # `root` may lack the number of its last event
    keys: list[str] = []
    for setting in named if stored is not None else ():
        webhook = _webhook_of(setting, stored or root, settings)
        if await db.put_record(KIND, webhook.key, webhook.to_json(), version=0) is not None:
            keys.append(webhook.key)
    return keys


async def withdraw(db: TaskStore, keys: Sequence[str]) -> None:
    """Remove the webhooks of a run that was not requested."""
    if keys:
        from apflow.core.webhooks.kinds import KIND

        for key in keys:
            await db.remove_record(KIND, key)


def named_by(settings: Settings) -> list[str]:
    """Return the settings that name a receiver."""
    return [each for each in URL_SETTINGS if getattr(settings, each)]


def check_defaults(settings: Settings) -> None:
    """Check the settings of webhooks.

    Raises:
        SettingsError: one is invalid; the message names it, without its value.
    """
    for setting in named_by(settings):
        events = settings.webhook_events if setting == "webhook_url" else ()
        _check(setting, getattr(settings, setting), events, settings.webhook_secret)


@lru_cache(maxsize=8)
def _check(setting: str, url: str, events: tuple[str, ...], secret: str) -> None:
    from apflow.core.webhooks.webhook import read_config

    settings = {"url": setting, "events": "webhook_events", "secret": "webhook_secret"}
    try:
        read_config({"url": url, "events": list(events), "secret": secret or None})
    except InvalidInputError as error:
        faults = [each.removeprefix("webhook_config.") for each in error.violations]
        shown = [_named(each, settings) for each in faults]
        raise SettingsError(f"Webhooks of every run cannot be registered. {'; '.join(shown)}.") from None


def _named(fault: str, settings: Mapping[str, str]) -> str:
    field, _, why = fault.partition(": ")
    return f"APFLOW_{settings.get(field.partition('.')[0], field).upper()}: {why}"


def addressed(webhook: Webhook, settings: Settings) -> Webhook | None:
    """Return a webhook with its URL and its secret; None if the settings of this process do not name them."""
    if webhook.setting is None:
        return webhook
    url = getattr(settings, webhook.setting) if webhook.setting in URL_SETTINGS else ""
    secret = webhook.secret or settings.webhook_secret
    return replace(webhook, url=url, secret=secret) if url and secret else None


def _webhook_of(setting: str, root: Task, settings: Settings) -> Webhook:
    """Return the webhook of a setting for the next run of a tree, with the same ID for the same run."""
    from apflow.core.webhooks.webhook import Webhook, made_secret

    is_of_failures = setting == "on_failure_url"
    events = [str(EventType.TREE_FAILED)] if is_of_failures else list(settings.webhook_events)
    return Webhook(
        id=hashlib.sha256(f"{root.id}\n{setting}\n{root.last_event}".encode()).hexdigest()[:32],
        root_id=root.id,
        user_id=root.user_id,
        url="",
        created_at=utc_now().isoformat(),
        timeout=max(settings.webhook_timeout, 0.001),
        max_retries=MAX_RETRIES,
        events=events,
        # Without a setting for it, a secret that no receiver knows: signatures cannot be verified then.
        secret=None if settings.webhook_secret else made_secret(),
        setting=setting,
        sent=root.last_event,
    )
