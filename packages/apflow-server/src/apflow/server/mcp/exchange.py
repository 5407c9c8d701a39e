"""One request of an MCP client, without the SDK: what a handler gets, and the errors that it may raise."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from starlette.requests import Request

from apflow.core.model.task import Json

METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL: Final = -32603
RESOURCE_NOT_FOUND: Final = -32002
HEADER_MISMATCH: Final = -32020
MISSING_CAPABILITY: Final = -32021


class Report(Protocol):
    """Sends the progress of a request to its client."""

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None:
        """Send one notification. `progress` must exceed that of the notification before it."""
        ...


class Elicit(Protocol):
    """Asks the user of a client within a request."""

    async def __call__(self, params: Mapping[str, Json]) -> dict[str, Json]:
        """Send `elicitation/create` with these parameters, and return the result, as on the wire."""
        ...


@dataclass(frozen=True)
class Exchange:
    """One request of a client."""

    request: Request | None  # that carries it; None over stdio
    report: Report | None  # None: the client does not want to know of the progress
    context: Any = None  # of the SDK
    # Extensions of the protocol that the client declares with the request; since 2026-07-28.
    extensions: frozenset[str] = frozenset()
    can_elicit: bool = False  # the client declares that it asks its user
    elicit: Elicit | None = None  # None: the protocol of the client has no requests within a request


class ProtocolError(Exception):
    """An error of JSON-RPC as the answer to a request."""

    def __init__(self, code: int, message: str, data: Json = None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data


def missing_extension(extension: str) -> ProtocolError:
    """Return the error for a client that does not declare an extension which the request needs."""
    return ProtocolError(
        MISSING_CAPABILITY,
        f"The request needs a client that declares the extension {extension}.",
        {"requiredCapabilities": {"extensions": {extension: {}}}},
    )


# Takes the parameters of a request and returns its result, both as they are on the wire.
Handler = Callable[[Exchange, Mapping[str, Json]], Awaitable[dict[str, Json]]]
