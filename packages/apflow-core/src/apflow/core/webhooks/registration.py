"""Checks a webhook before it is stored: its configuration, its address, and the secrets that it sends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from apflow.core.errors import ExecutorError, InvalidInputError, SecretRefusedError
from apflow.core.model.task import Json
from apflow.core.net.connect import resolve
from apflow.core.payload.secrets import named_secrets
from apflow.core.permissions.origin import Origin
from apflow.core.permissions.secret_policy import WEBHOOK, Author

if TYPE_CHECKING:  # pydantic is loaded only where webhooks are used
    from apflow.core.webhooks.webhook import WebhookConfig

PORTS: Final = {"http": 80, "https": 443}


async def check_config(config: Mapping[str, Json], author: Author | None) -> WebhookConfig:
    """Validate the configuration of a webhook, including its address.

    Args:
        author: who registers the webhook; None means this machine.

    Raises:
        InvalidInputError: the configuration is invalid, or a policy refuses the address or a secret.
    """
    from apflow.core.webhooks.webhook import read_config

    read = read_config(config)
    parts = urlsplit(read.url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    _check_secrets({"headers": config.get("headers"), "secret": config.get("secret")}, author, host, port)
    try:
        await resolve(host, port)
    except ExecutorError as error:
        raise InvalidInputError("Invalid webhook.", [f"webhook_config.url: {error}"]) from error
    return read


def _check_secrets(given: Json, author: Author | None, host: str, port: int) -> None:
    """Check that an author may send the secrets of a webhook to a host.

    Raises:
        InvalidInputError: the policy refuses one of the secrets.
    """
    origin = Origin(None if author is None else (author,), WEBHOOK, can_bind=True)
    try:
        for name in named_secrets(given):
            origin.permit(name)
        origin.check_host(host, port)
    except SecretRefusedError as error:
        raise InvalidInputError("Invalid webhook.", [f"webhook_config: {error}"]) from error
