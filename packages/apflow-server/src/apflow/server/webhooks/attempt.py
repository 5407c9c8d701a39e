"""One attempt to deliver one event to a webhook: a request, signed as Standard Webhooks has it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Final, cast

import httpx
import standardwebhooks

from apflow.core.errors import ApflowError
from apflow.core.model.event import TaskEvent
from apflow.core.model.task import Json, utc_now
from apflow.core.payload.json_value import dumps
from apflow.core.payload.secrets import redact, resolve
from apflow.core.permissions.origin import working_for
from apflow.core.settings import Settings
from apflow.core.webhooks.webhook import Webhook
from apflow.server.webhooks.delivery_status import DeliveryAttempt, judge_error, judge_status

READ: Final = 64 << 10  # bytes of an answer that are read, so that its connection can serve again


async def send(
    transport: httpx.AsyncBaseTransport,
    webhook: Webhook,
    event: TaskEvent,
    timeout: float,
    settings: Settings,
) -> DeliveryAttempt:
    """Send one event and return the outcome. Only a cancellation is raised."""
    secrets: list[str] = []
    try:
        async with asyncio.timeout(min(timeout, webhook.timeout)):
            origin = webhook.origin
            if webhook.a2a is not None:
                request, secrets = await asyncio.to_thread(_a2a_request, webhook, event, settings)
            else:
                # A provider of secrets may ask another service, and block.
                resolved, secrets = await asyncio.to_thread(
                    resolve, {"headers": webhook.headers, "secret": webhook.secret}, origin.permit
                )
                request = signed(webhook, event, resolved, utc_now())
            with working_for(origin):
                response = await transport.handle_async_request(request)
            try:
                await _read_some(response)
            finally:
                await response.aclose()
        return judge_status(response.status_code, response.headers.get("retry-after"), utc_now())
    except (ApflowError, OSError, httpx.HTTPError, httpx.InvalidURL, TimeoutError, ValueError) as error:
        attempt = judge_error(error)
        # What a library says of headers that cannot be sent repeats them.
        return DeliveryAttempt(attempt.status, cast("str", redact(attempt.problem, secrets)))


def signed(webhook: Webhook, event: TaskEvent, resolved: Mapping[str, Json], now: datetime) -> httpx.Request:
    """Return the request that delivers an event.

    Raises:
        ValueError: the secret is invalid, or a header cannot be sent.
    """
    body = dumps(event.to_dict())
    message_id = (
        f"{webhook.id}.{event.sequence}"  # the same at each attempt: a receiver recognizes a repetition
    )
    signature = standardwebhooks.Webhook(str(resolved["secret"])).sign(message_id, now, body.decode())
    headers = {
        **resolved["headers"],
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }
    return httpx.Request(webhook.method, webhook.url, headers=headers, content=body)


def _a2a_request(webhook: Webhook, event: TaskEvent, settings: Settings) -> tuple[httpx.Request, list[str]]:
    """Return the request that delivers an event as an update of an A2A task, and the credentials in it."""
    # Imported here, because few processes deliver for A2A, and its SDK takes more than a second.
    from apflow.server.a2a.delivery import request_of
    from apflow.server.auth.credentials import decrypt

    stored = webhook.a2a or {}
    hidden = {
        name: decrypt(str(stored[name]), settings) for name in ("token", "credentials") if stored.get(name)
    }
    return request_of(webhook, event, hidden), list(hidden.values())


async def _read_some(response: httpx.Response) -> None:
    read = 0
    async for piece in response.aiter_raw():
        read += len(piece)
        if read > READ:
            return
