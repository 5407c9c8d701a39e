"""What a task asks for, checked before anything is connected to. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from apflow.core.errors import InvalidInputError
from apflow.core.net.headers import check_headers, is_token
from apflow.core.payload.json_value import dumps
from apflow.executor.websocket.address import Address, read_address
from apflow.executor.websocket.errors import WebSocketInputError

# What is sent or received: text or bytes.
Message = str | bytes

# Of the handshake itself, or of a body, which it does not have.
_RESERVED = frozenset({"host", "connection", "upgrade", "content-length", "transfer-encoding"})
_RESERVED_BEGIN = "sec-websocket-"


@dataclass(frozen=True, slots=True)
class WebSocketRequest:
    """A connection and what is sent over it. Never shown: headers and messages may hold credentials."""

    address: Address
    headers: Mapping[str, str]
    subprotocols: Sequence[str]
    messages: Sequence[Message]
    verify: bool | str
    ping_interval: float | None
    max_size: int

    def __repr__(self) -> str:
        return f"<WebSocketRequest to {self.address.shown}>"


def read_request(inputs: Mapping[str, Any]) -> WebSocketRequest:
    """Return what the inputs ask for.

    Raises:
        WebSocketInputError: something of it cannot be sent.
    """
    return WebSocketRequest(
        read_address(inputs["url"]),
        _read_headers(inputs.get("headers") or {}),
        _read_subprotocols(inputs.get("subprotocols") or []),
        _read_messages(inputs),
        inputs.get("verify", True),
        inputs.get("ping_interval", 20) or None,
        inputs.get("max_output_bytes", 1 << 20),
    )


def sent_of(inputs: Mapping[str, Any]) -> Any:
    """Return what is sent, as the task gives it: one message, a list, or None where there is nothing."""
    return inputs["messages"] if inputs.get("messages") is not None else inputs.get("message")


def _read_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    check_headers(headers, WebSocketInputError, _fault_of_name)
    return dict(headers)


def _fault_of_name(name: str) -> str | None:
    if name not in _RESERVED and not name.startswith(_RESERVED_BEGIN):
        return None
    return f"is set by the handshake itself{'; use `subprotocols`' if name.endswith('-protocol') else ''}"


def _read_subprotocols(subprotocols: Sequence[str]) -> Sequence[str]:
    for number, name in enumerate(subprotocols):
        if not is_token(name):
            raise WebSocketInputError(f"subprotocols[{number}]", "is a name that no subprotocol can have")
    return list(subprotocols)


def _read_messages(inputs: Mapping[str, Any]) -> list[Message]:
    message, messages = inputs.get("message"), inputs.get("messages")
    if messages is not None:
        if message is not None:
            raise WebSocketInputError("message", "cannot be given beside `messages`: put it into the list")
        return [_encoded(each, f"messages[{number}]") for number, each in enumerate(messages)]
    return [] if message is None else [_encoded(message, "message")]


def _encoded(message: Any, name: str) -> Message:
    if isinstance(message, dict) and set(cast("dict[str, Any]", message)) == {"base64"}:
        return _decoded(message["base64"], name)
    try:
        text = message if isinstance(message, str) else dumps(message).decode()
        text.encode()
    except InvalidInputError as error:
        raise WebSocketInputError(name, f"is not valid JSON: {error}") from error
    except UnicodeEncodeError as error:
        raise WebSocketInputError(name, "contains a lone surrogate, which is not valid Unicode") from error
    return text


def _decoded(content: Any, name: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise WebSocketInputError(f"{name}.base64", "is not valid base64") from error
