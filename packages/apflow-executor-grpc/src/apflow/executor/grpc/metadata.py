"""Metadata: the headers of gRPC. Those with keys that end in `-bin` hold bytes, shown as base64."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping, Sequence

from apflow.core.payload.secrets import STARS, is_secret_key
from apflow.executor.grpc.errors import GrpcInputError

Pairs = tuple[tuple[str, str | bytes], ...]

# What gRPC and HTTP/2 set by themselves.
RESERVED = frozenset({
    "connection", "content-length", "content-type", "host", "keep-alive", "proxy-connection", "te",
    "transfer-encoding", "upgrade", "user-agent",
})  # fmt: skip

_KEY = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[\x20-\x7e]*")
_MIN_SECRET_LENGTH = 4


def read_metadata(given: Mapping[str, str | Sequence[str]]) -> Pairs:
    """Return metadata as gRPC takes it.

    Raises:
        GrpcInputError: a key or value that cannot be sent. The value is not told.
    """
    pairs: list[tuple[str, str | bytes]] = []
    for name, values in given.items():
        key = name.lower()
        if not _KEY.fullmatch(key):
            raise GrpcInputError(f"metadata: {name!r}", "is not a valid key: use letters, digits, _ - and .")
        if key in RESERVED or key.startswith("grpc-"):
            raise GrpcInputError(f"metadata: {name!r}", "is set by gRPC itself. Leave it out.")
        each_value = [values] if isinstance(values, str) else values
        pairs.extend((key, _read_value(key, value)) for value in each_value)
    return tuple(pairs)


def _read_value(key: str, value: str) -> str | bytes:
    if key.endswith("-bin"):
        try:
            return base64.b64decode(value.encode() + b"=" * (-len(value) % 4), validate=True)
        except (binascii.Error, UnicodeError) as error:
            raise GrpcInputError(f"metadata: {key!r}", "must be base64, as its name ends in -bin.") from error
    if not _VALUE.fullmatch(value) or value != value.strip():
        raise GrpcInputError(
            f"metadata: {key!r}",
            "has a value with other than printable ASCII characters, or blanks around it. "
            "Bytes go under a key that ends in -bin, as base64.",
        )
    return value


def show_metadata(pairs: Iterable[tuple[str, str | bytes]]) -> dict[str, str | list[str]]:
    """Return metadata of the server as JSON: a list where a key came several times."""
    shown: dict[str, list[str]] = {}
    for key, value in pairs:
        if not key.startswith("grpc-"):
            text = value if isinstance(value, str) else base64.b64encode(value).decode()
            shown.setdefault(key, []).append(text)
    return {key: values[0] if len(values) == 1 else values for key, values in shown.items()}


def without_secrets(text: str, metadata: Pairs) -> str:
    """Return what a server says, less the credentials that it was sent: some repeat them."""
    for key, value in metadata:
        if not is_secret_key(key) or isinstance(value, bytes):
            continue
        for secret in (value, value.partition(" ")[2]):
            if len(secret) >= _MIN_SECRET_LENGTH:
                text = text.replace(secret, STARS)
    return text
