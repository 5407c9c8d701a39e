"""Push notifications: webhooks that receive the updates of one A2A task.

They are stored and delivered as the other webhooks of a tree are: with retries, in order, continued after a
restart, by any process that runs trees. `apflow.server.a2a.delivery` writes the requests.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final, cast

from a2a.types.a2a_pb2 import AuthenticationInfo, TaskPushNotificationConfig

from apflow.core.errors import InvalidInputError
from apflow.core.model.event import FINAL, EventType
from apflow.core.model.task import Json, utc_now
from apflow.core.settings import Settings
from apflow.core.store.tree_records import keys_of
from apflow.core.webhooks.kinds import ENDED_KIND, KIND
from apflow.core.webhooks.registration import check_config
from apflow.core.webhooks.webhook import MAX_PER_TREE, Webhook, WebhookConfig, new_webhook
from apflow.server.a2a.calls import LEGACY, Call
from apflow.server.a2a.executions import Execution
from apflow.server.auth.credentials import encrypt

EVENTS: Final = sorted(
    str(each)
    for each in (
        *FINAL,
        EventType.TREE_STARTED,
        EventType.APPROVAL_REQUESTED,
        EventType.APPROVAL_DECIDED,
        EventType.TASK_COMPLETED,
        EventType.TASK_FAILED,
        EventType.TASK_CANCELLED,
    )
)
MAX_RETRIES: Final = 5  # of each update
MAX_LENGTH: Final = 8192  # characters of a token or of credentials


async def check(call: Call, config: TaskPushNotificationConfig) -> WebhookConfig:
    """Validate a configuration, including its address, before anything is created.

    Raises:
        InvalidInputError: it is invalid, or a policy refuses the address.
    """
    _check_header("token", config.token)
    _check_header("authentication.scheme", config.authentication.scheme)
    _check_header("authentication.credentials", config.authentication.credentials)
    given: dict[str, Json] = {"url": config.url, "max_retries": MAX_RETRIES, "events": EVENTS}
    return await check_config(given, call.service.author)


def _check_header(name: str, value: str) -> None:
    if len(value) > MAX_LENGTH or not (value.isascii() and value.isprintable()):
        raise InvalidInputError(
            "Invalid push notification configuration.",
            [f"{name}: It must have at most {MAX_LENGTH} characters, all of them printable ASCII."],
        )


async def register(
    call: Call, execution: Execution, config: TaskPushNotificationConfig, checked: WebhookConfig
) -> TaskPushNotificationConfig:
    """Store a configuration, and return it with its ID. It replaces one with the same ID.

    Raises:
        InvalidInputError: the tree has the maximum of active webhooks.
    """
    db, root = call.service.db, execution.root
    config_id = config.id or execution.task_id
    known = [each for each in await _webhooks(call, execution) if _id(each) != config_id]
    if len([each for each in known if each.status == "active"]) >= MAX_PER_TREE:
        raise InvalidInputError(f"The tree already has the maximum of {MAX_PER_TREE} active webhooks.")
    webhook = new_webhook(
        checked,
        _key(execution.task_id, config_id),
        root_id=root.id,
        user_id=root.user_id,
        author=call.service.author,
        sent=execution.run.after,
        now=utc_now(),
    )
    webhook.a2a = await _stored(call, execution, config, config_id)
    await db.remove_record(ENDED_KIND, webhook.key)
    await db.put_record(KIND, webhook.key, webhook.to_json())
    made = TaskPushNotificationConfig()
    made.CopyFrom(config)
    made.id, made.task_id = config_id, execution.task_id
    return made


async def _stored(
    call: Call, execution: Execution, config: TaskPushNotificationConfig, config_id: str
) -> dict[str, Json]:
    """Return what a webhook stores of a configuration. Its credentials are encrypted."""
    settings: Settings = call.connection.scope["app"].state.settings
    hidden = {"token": config.token, "credentials": config.authentication.credentials}
    tally = (await call.service.db.tallies([execution.root.id])).get(execution.root.id)
    return {
        "id": config_id,
        "number": execution.run.number,
        "context_id": execution.context_id,
        "version": LEGACY if call.version == LEGACY else "1.0",
        "task_count": tally.total if tally is not None else 0,
        "original_task_id": execution.root.original_task_id,
        "scheme": config.authentication.scheme,
        **{
            name: await asyncio.to_thread(encrypt, value, settings) if value else None
            for name, value in hidden.items()
        },
    }


async def configurations(call: Call, execution: Execution) -> list[TaskPushNotificationConfig]:
    """Return the configurations of a task, without their tokens and credentials."""
    return [_shown(each, execution) for each in await _webhooks(call, execution)]


async def delete(call: Call, execution: Execution, config_id: str) -> None:
    """Delete a configuration, if it exists."""
    key = f"{keys_of(execution.root.id)}{_key(execution.task_id, config_id)}"
    for kind in (KIND, ENDED_KIND):
        await call.service.db.remove_record(kind, key)


async def _webhooks(call: Call, execution: Execution) -> list[Webhook]:
    found = {
        record.key: Webhook.of(record)
        for kind in (KIND, ENDED_KIND)
        for record in await call.service.db.records(kind, prefix=keys_of(execution.root.id))
    }
    return [
        each
        for each in found.values()
        if each.root_id == execution.root.id
        and each.a2a is not None
        and each.a2a["number"] == execution.run.number
    ]


def _shown(webhook: Webhook, execution: Execution) -> TaskPushNotificationConfig:
    scheme = cast("str", (webhook.a2a or {}).get("scheme"))
    return TaskPushNotificationConfig(
        id=_id(webhook),
        task_id=execution.task_id,
        url=webhook.url,
        authentication=AuthenticationInfo(scheme=scheme) if scheme else None,
    )


def _id(webhook: Webhook) -> str:
    return cast("str", (webhook.a2a or {}).get("id") or "")


def _key(task_id: str, config_id: str) -> str:
    return hashlib.sha256(f"{task_id}\n{config_id}".encode()).hexdigest()[:32]
