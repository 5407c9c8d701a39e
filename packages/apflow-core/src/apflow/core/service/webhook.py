"""Webhooks: who is to be told of the events of a tree, by HTTP, and how far that has come.

A webhook is a record beside the tasks, so that it outlives the process that took it. A server delivers to it;
`Webhook` is what both sides know of one. Secrets that are given as `{"$secret": NAME}` stay such references.
"""

from __future__ import annotations

import base64
import hashlib
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
from apflow.core.model.task import Json
from apflow.core.payload.json_value import whole
from apflow.core.payload.secrets import mask, refuse_masked
from apflow.core.permissions.origin import Origin, as_json, authors_of
from apflow.core.permissions.secret_policy import WEBHOOK, Author
from apflow.core.store.base import Record

KIND = "webhook"
ENDED_KIND = "webhook.ended"  # apart, so that who delivers does not read them again and again
MOST_OF_A_TREE = 20
LONGEST_ID = 900  # bytes of an id that stands in a key as it is
SECRET_PREFIX = "whsec_"  # noqa: S105 - what every such secret begins with (Standard Webhooks)
MADE_BYTES = 32  # of a secret that is made here

# What a request is made of, or is signed with, is not the caller's to set.
KEPT_HEADERS = frozenset({
    "connection", "content-length", "content-type", "expect", "host", "keep-alive", "te", "trailer",
    "transfer-encoding", "upgrade", "webhook-id", "webhook-signature", "webhook-timestamp",
})  # fmt: skip
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]{0,8192}")  # RFC 9110, section 5.5: others are of old
_NOT_OF_URL = re.compile(r"[\x00-\x20\x7f]")
MOST_VALUES = 1000  # in what a caller gives: of more, not each is judged


class SecretReference(BaseModel):
    """A secret by its name: it is looked up when it is needed, and never stored."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    name: str = Field(alias="$secret", min_length=1)


def _check_url(url: str) -> str:
    if _NOT_OF_URL.search(url):
        raise ValueError("write spaces and control characters as %20 and the like")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("give a URL that begins with http:// or https:// and names a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("give credentials as headers, not in the URL, where they would be shown")
    if parts.port == 0:  # asking raises ValueError for what is no port
        raise ValueError("nothing listens at port 0")
    return url


def _check_headers(
    headers: dict[str, str | SecretReference],
) -> dict[str, str | SecretReference]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a header")
        if name.lower() in KEPT_HEADERS:
            raise ValueError(f"the header {name!r} is set by the server")
        if isinstance(value, str) and not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the value of {name!r} holds what no header can")
    return headers


def _check_secret(secret: str | SecretReference | None) -> str | SecretReference | None:
    if isinstance(secret, str):
        key_of(secret)
    return secret


class WebhookConfig(BaseModel):
    """Whom to tell of the events of a run, and how."""

    model_config = ConfigDict(extra="forbid", strict=True)

    url: Annotated[str, AfterValidator(_check_url)] = Field(
        max_length=2000, description="Where each event is sent, as JSON"
    )
    headers: Annotated[dict[str, str | SecretReference], AfterValidator(_check_headers)] = Field(
        default_factory=dict, max_length=50, description='Sent along; a secret one as {"$secret": NAME}'
    )
    method: Literal["POST", "PUT"] = "POST"
    timeout: float = Field(30, gt=0, le=300, description="Seconds that one attempt may take")
    max_retries: Annotated[int, BeforeValidator(whole)] = Field(
        3, ge=0, le=20, description="Of one event, after a 5xx, a 429 or a network fault"
    )
    secret: Annotated[str | SecretReference | None, AfterValidator(_check_secret)] = Field(
        None,
        repr=False,
        description="What deliveries are signed with: whsec_ and 24 to 64 bytes as base64; made if left out",
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
                if count > MOST_VALUES:
                    raise ValueError(f"more than {MOST_VALUES} values are in it")
                waiting += inside.values() if isinstance(inside, dict) else inside
        return given


@dataclass(slots=True, kw_only=True)
class Webhook:
    """A webhook as it is stored."""

    id: str
    root_id: str
    user_id: str | None
    url: str
    created_at: str
    headers: dict[str, Json] = field(default_factory=dict[str, Json])
    method: str = "POST"
    timeout: float = 30
    max_retries: int = 3
    secret: Json = field(default=None, repr=False)
    # The callers who wrote it, as a root stores them; None: it comes from this machine.
    written_by: list[dict[str, Json]] | None = None
    # Up to which event of the tree all was sent, or given up.
    sent: int = 0
    status: str = "active"  # then "done": the final event was sent; or "dead": see `error`
    failures: int = 0  # attempts to send the next event
    not_before: str | None = None  # the next attempt
    refused: int = 0  # events in a row that the receiver answered with an error that is not retried
    error: str | None = None  # of the last attempt that failed
    ended_at: str | None = None
    # Who delivers, where several processes might, and until when nobody else does.
    owner: str | None = None
    lease_until: str | None = None

    @property
    def key(self) -> str:
        """The key of its record."""
        return f"{keys_of(self.root_id)}{self.id}"

    @classmethod
    def of(cls, record: Record) -> Webhook:
        """Return the webhook that a record holds. What a newer version has added is left out."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in record.value.items() if name in known})

    @property
    def origin(self) -> Origin:
        """Whose secrets its delivery may use."""
        return Origin(authors_of(self), WEBHOOK, can_bind=True)

    def to_json(self) -> dict[str, Json]:
        """Return it as it is stored."""
        return asdict(self)

    def shown(self) -> dict[str, Json]:
        """Return it as it may be shown: without the secret, and headers that are secret as ***."""
        hidden = ("secret", "written_by", "owner", "lease_until", "root_id", "user_id")
        return {name: value for name, value in self.to_json().items() if name not in hidden} | {
            "headers": mask(self.headers)
        }


def keys_of(root_id: str) -> str:
    """Return what the keys of a tree's webhooks begin with. An id may take more bytes than a key has."""
    raw = root_id.encode()
    return f"{root_id}/" if len(raw) <= LONGEST_ID else f"sha256:{hashlib.sha256(raw).hexdigest()}/"


def read_config(config: Mapping[str, Json]) -> WebhookConfig:
    """Return what a caller gave, checked.

    Raises:
        InvalidInputError: it cannot be used; every fault is listed.
    """
    refuse_masked(dict(config), "webhook_config")
    try:
        return WebhookConfig.model_validate(dict(config))
    except ConfigError as error:
        faults = [
            f"webhook_config.{'.'.join(str(part) for part in each['loc'])}: {each['msg']}"
            for each in error.errors()
        ]
        raise InvalidInputError("The webhook cannot be used.", faults) from error


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
    """Return a webhook that is to be told what follows the event `sent`, with a secret in any case."""
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
    """Return a new secret to sign with."""
    return SECRET_PREFIX + base64.b64encode(secrets.token_bytes(MADE_BYTES)).decode()


def key_of(secret: str) -> bytes:
    """Return the key that a secret stands for.

    Raises:
        ValueError: it is none.
    """
    advice = f"a secret is {SECRET_PREFIX} and 24 to 64 bytes as base64"
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except ValueError as error:
        raise ValueError(advice) from error
    if not 24 <= len(key) <= 64:
        raise ValueError(advice)
    return key
