"""Webhooks: receivers of the events of a tree over HTTP, and the progress of their deliveries.

A webhook is stored as a record beside the tasks, so that it outlives the process that registered it. Any
process that runs trees delivers the events. Secrets that are given as `{"$secret": NAME}` are stored as
references. Of a webhook that the settings name, neither the URL nor the secret is stored.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Annotated, Any, Literal, cast
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic import ValidationError as ConfigError

from apflow.core.errors import InvalidInputError
from apflow.core.model.event import LIVE, EventType, TaskEvent
from apflow.core.model.task import Json
from apflow.core.payload.json_value import whole
from apflow.core.payload.secrets import mask, refuse_masked
from apflow.core.permissions.origin import Origin, as_json, authors_of
from apflow.core.permissions.secret_policy import WEBHOOK, Author
from apflow.core.store.base import Record
from apflow.core.store.tree_records import keys_of

MAX_PER_TREE = 20
SECRET_PREFIX = "whsec_"  # noqa: S105 - what every such secret begins with (Standard Webhooks)
MADE_BYTES = 32  # of a generated secret

# Headers that the server sets; a caller cannot.
KEPT_HEADERS = frozenset({
    "connection", "content-length", "content-type", "expect", "host", "keep-alive", "te", "trailer",
    "transfer-encoding", "upgrade", "webhook-id", "webhook-signature", "webhook-timestamp",
})  # fmt: skip
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]{0,8192}")  # RFC 9110, section 5.5, without obs-text
_NOT_OF_URL = re.compile(r"[\x00-\x20\x7f]")
EVENTS = tuple(sorted(each for each in EventType if each not in LIVE))  # that a webhook can receive
MAX_VALUES = 1000  # in a configuration; a larger one is refused without validating its values


class SecretReference(BaseModel):
    """A reference to a secret. The secret is resolved on delivery and is never stored."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    name: str = Field(alias="$secret", min_length=1)


def _check_url(url: str) -> str:
    if _NOT_OF_URL.search(url):
        raise ValueError("encode spaces and control characters, as in %20")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("give a URL that starts with http:// or https:// and has a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("give credentials in headers, not in the URL, which is shown")
    if parts.port == 0:  # reading `port` raises ValueError for an invalid port
        raise ValueError("port 0 cannot receive requests")
    return url


def _check_headers(
    headers: dict[str, str | SecretReference],
) -> dict[str, str | SecretReference]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a valid header name")
        if name.lower() in KEPT_HEADERS:
            raise ValueError(f"the header {name!r} is set by the server")
        if isinstance(value, str) and not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the value of {name!r} contains characters that a header cannot contain")
    return headers


def _check_events(events: list[str]) -> list[str]:
    unknown = [each for each in events if each not in EVENTS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not delivered to webhooks; the types are {', '.join(EVENTS)}")
    return events


def _check_secret(secret: str | SecretReference | None) -> str | SecretReference | None:
    if isinstance(secret, str):
        key_of(secret)
    return secret


class WebhookConfig(BaseModel):
    """The configuration of a webhook: where and how the server sends the events of a run."""

    model_config = ConfigDict(extra="forbid", strict=True)

    url: Annotated[str, AfterValidator(_check_url)] = Field(
        max_length=2000, description="URL that receives each event as JSON."
    )
    headers: Annotated[dict[str, str | SecretReference], AfterValidator(_check_headers)] = Field(
        default_factory=dict,
        max_length=50,
        description='Headers of each request; give a secret value as {"$secret": NAME}.',
    )
    method: Literal["POST", "PUT"] = Field("POST", description="HTTP method.")
    timeout: float = Field(30, gt=0, le=300, description="Timeout of one attempt in seconds.")
    max_retries: Annotated[int, BeforeValidator(whole)] = Field(
        3, ge=0, le=20, description="Maximum retries per event, after status 5xx or 429, or a network error."
    )
    events: Annotated[list[str], AfterValidator(_check_events)] = Field(
        default_factory=list,
        max_length=len(EVENTS),
        description='Types of the events to deliver, such as "tree_failed"; by default, all stored events.',
    )
    secret: Annotated[str | SecretReference | None, AfterValidator(_check_secret)] = Field(
        None,
        repr=False,
        description="Signing secret: whsec_ and 24 to 64 bytes in base64; generated by default.",
    )

    @model_validator(mode="before")
    @classmethod
    def _check_size(cls, given: object) -> object:
        count, waiting = 0, [given]
        while waiting:
            each = waiting.pop()
            if isinstance(each, dict | list):
                inside = cast("dict[str, object] | list[object]", each)
                count += len(inside)
                if count > MAX_VALUES:
                    raise ValueError(f"it contains more than {MAX_VALUES} values")
                waiting += inside.values() if isinstance(inside, dict) else inside
        return given


@dataclass(slots=True, kw_only=True)
class Webhook:
    """A stored webhook."""

    id: str
    root_id: str
    user_id: str | None
    url: str
    created_at: str
    headers: dict[str, Json] = field(default_factory=dict[str, Json])
    method: str = "POST"
    timeout: float = 30
    max_retries: int = 3
    events: list[str] = field(default_factory=list[str])  # types of the delivered events; empty: all
    secret: Json = field(default=None, repr=False)
    # The setting that names the URL, which is read at each delivery; `secret` is None if it is in a setting.
    setting: str | None = None
    # The callers who registered it, in the format of a root task; None: this machine.
    written_by: list[dict[str, Json]] | None = None
    # Sequence number of the last event that was delivered or given up.
    sent: int = 0
    status: str = "active"  # then "done": the final event was delivered; or "dead": see `error`
    failures: int = 0  # failed attempts to deliver the next event
    not_before: str | None = None  # time of the next attempt
    refused: int = 0  # consecutive events that the receiver refused with a status that is not retried
    error: str | None = None  # of the last failed attempt
    ended_at: str | None = None
    # The A2A task whose updates it receives instead of events, and its credentials, encrypted.
    a2a: dict[str, Json] | None = field(default=None, repr=False)
    # The process that delivers, and the end of its lease.
    owner: str | None = None
    lease_until: str | None = None

    @property
    def key(self) -> str:
        """The key of its record."""
        return f"{keys_of(self.root_id)}{self.id}"

    @classmethod
    def of(cls, record: Record) -> Webhook:
        """Return the webhook of a record, without fields of newer versions."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in record.value.items() if name in known})

    @property
    def origin(self) -> Origin:
        """The origin that decides which secrets its delivery may use."""
        return Origin(authors_of(self), WEBHOOK, can_bind=True)

    def wants(self, event: TaskEvent) -> bool:
        """Return whether an event must be delivered."""
        return event.type not in LIVE and (not self.events or event.type in self.events)

    def to_json(self) -> dict[str, Json]:
        """Return the webhook as it is stored."""
        return asdict(self)

    def shown(self) -> dict[str, Json]:
        """Return the webhook for callers: without the secret, and with secret headers masked as ***."""
        hidden = ("secret", "written_by", "owner", "lease_until", "root_id", "user_id", "setting", "a2a")
        return {name: value for name, value in self.to_json().items() if name not in hidden} | {
            "headers": mask(self.headers),
            "url": self.url if self.setting is None else f"APFLOW_{self.setting.upper()}",
        }


def read_config(config: Mapping[str, Json]) -> WebhookConfig:
    """Validate the configuration of a webhook.

    Raises:
        InvalidInputError: the configuration is invalid; `violations` lists every fault.
    """
    refuse_masked(dict(config), "webhook_config")
    try:
        return WebhookConfig.model_validate(dict(config))
    except ConfigError as error:
        faults = [
            f"webhook_config.{'.'.join(str(part) for part in each['loc'])}: {each['msg']}"
            for each in error.errors()
        ]
        raise InvalidInputError("Invalid webhook.", faults) from error


def new_webhook(
    config: WebhookConfig,
    webhook_id: str,
    *,
    root_id: str,
    user_id: str | None,
    author: Author | None,
    sent: int,
    now: datetime,
) -> Webhook:
    """Return a webhook for the events after number `sent`; without a given secret, with a generated one."""
    given: dict[str, Any] = config.model_dump(by_alias=True)
    given["secret"] = given["secret"] or made_secret()
    return Webhook(
        id=webhook_id,
        root_id=root_id,
        user_id=user_id,
        written_by=None if author is None else as_json((author,)),
        sent=sent,
        created_at=now.isoformat(),
        **given,
    )


def made_secret() -> str:
    """Return a new signing secret."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(MADE_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """Return the signing key of a secret.

    Raises:
        ValueError: the secret is invalid.
    """
    advice = f"a secret is {SECRET_PREFIX} followed by 24 to 64 bytes in base64"
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError as error:
        raise ValueError(advice) from error
    if not 24 <= len(key) <= 64:
        raise ValueError(advice)
    return key
