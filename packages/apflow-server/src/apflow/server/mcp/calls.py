"""Calls of operations for MCP clients: over HTTP, or in the process that serves standard input and output."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, cast

from starlette.requests import Request

from apflow.core.model.task import Json
from apflow.core.service.operations import OPERATIONS
from apflow.core.service.task_service import TaskService
from apflow.server.api import dispatch
from apflow.server.drain import Drain
from apflow.server.http.api_error import api_error_of

PROTOCOL: Final = "mcp"


class Calls(Protocol):
    """What one caller may call."""

    @property
    def service(self) -> TaskService:
        """The operations of the caller."""
        ...

    @property
    def has_store(self) -> bool:
        """Whether the store of the service is in reach, not only its operations."""
        ...

    async def call(self, name: str, given: Mapping[str, Json]) -> Json:
        """Call an operation by name and return its result.

        Raises:
            ApiError: the call failed.
        """

    async def server_ends(self) -> None:
        """Wait until this process serves no longer."""

    @property
    def is_ending(self) -> bool:
        """Whether this process is about to end."""
        ...


@dataclass(frozen=True)
class HttpCalls:
    """The calls of the sender of an HTTP request."""

    service: TaskService
    request: Request
    has_store: bool = True

    async def call(self, name: str, given: Mapping[str, Json]) -> Json:
        """Call an operation by name and return its result; see `Calls`."""
        parsed = dispatch.parse(name, dict(given))
        return await dispatch.call(self.service, parsed, self.request, protocol=PROTOCOL)

    async def server_ends(self) -> None:
        """Wait until this process serves no longer."""
        await self._drain.over()

    @property
    def is_ending(self) -> bool:
        """Whether this process is about to end."""
        return self._drain.has_begun

    @property
    def _drain(self) -> Drain:
        drain: Drain = self.request.app.state.drain
        return drain


@dataclass(frozen=True)
class StdioCalls:
    """The calls of the process at the other end of standard input and output."""

    service: TaskService
    endings: Sequence[asyncio.Event]  # one is set: this process is about to end, or its input has ended

    @property
    def has_store(self) -> bool:
        """Whether the store of the service is in reach: that of a server is not."""
        return type(self.service) is TaskService

    async def call(self, name: str, given: Mapping[str, Json]) -> Json:
        """Call an operation by name and return its result; see `Calls`."""
        operation = OPERATIONS[name]
        try:
            arguments = dispatch.parse(name, dict(given)).arguments
            result = await operation.bound_to(self.service)(**arguments)
        except Exception as error:
            raise api_error_of(error) from error
        return result | {"protocol": PROTOCOL} if operation.reports_protocol else result

    async def server_ends(self) -> None:
        """Wait until this process serves no longer."""
        waiting = [asyncio.create_task(each.wait(), name="apflow:mcp:end") for each in self.endings]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()

    @property
    def is_ending(self) -> bool:
        """Whether this process is about to end."""
        return any(each.is_set() for each in self.endings)


def events_of(calls: Calls, root_id: str, after: int | None = None) -> AsyncGenerator[dict[str, Json], None]:
    """Return the events of a tree until the final event of its run; see `TaskService.watch`."""
    return calls.service.watch(root_id, after)


def error_text(error: Exception) -> str:
    """Return what a model reads of an error: the message, and each violation."""
    failure = api_error_of(error)
    given: Json = failure.data
    data = cast("dict[str, Json]", given) if isinstance(given, dict) else {}
    violations = cast("list[str]", data.get("violations", []))
    more = [each for each in violations if each not in failure.message]
    return "\n".join([failure.message, *(f"- {each}" for each in more)])
