"""The official MCP client in tests, in its versions 1.30 and 2, with one interface."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import mcp.types
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client

types: Any = mcp.types
IS_SECOND = hasattr(ClientSession, "discover")  # version 2
ERAS = ["legacy", "modern"] if IS_SECOND else ["legacy"]  # of the protocol, which 2026-07-28 divides

Progress = list[tuple[float, float | None, str | None]]


class McpClient:
    """One session. Results are as they are on the wire."""

    def __init__(self, session: Any, era: str, updated: list[str] | None) -> None:
        self.session = session
        self._era, self._updated = era, updated

    @asynccontextmanager
    async def subscribed(self, uri: str) -> AsyncGenerator[None]:
        """Have the server report changes to a resource."""
        if self._era == "modern":
            from mcp.client.subscriptions import listen

            async with listen(self.session, resource_subscriptions=[uri]) as events:
                noting = asyncio.create_task(self._note(events))
                yield
                noting.cancel()
            return
        given: Any = uri
        if not IS_SECOND:
            from pydantic import AnyUrl

            given = AnyUrl(uri)
        with warnings.catch_warnings():  # version 2 warns of what clients of earlier protocols do
            warnings.simplefilter("ignore", UserWarning)
            await self.session.subscribe_resource(given)
            yield
            await self.session.unsubscribe_resource(given)

    async def _note(self, events: Any) -> None:
        async for event in events:
            assert self._updated is not None
            self._updated.append(event.uri)

    async def tools(self) -> dict[str, dict[str, Any]]:
        """Return all tools by name."""
        return {each["name"]: each for each in await self._pages("list_tools", "tools")}

    async def resources(self) -> list[dict[str, Any]]:
        """Return all resources."""
        return await self._pages("list_resources", "resources")

    async def templates(self) -> list[dict[str, Any]]:
        """Return all templates of resources."""
        return await self._pages("list_resource_templates", "resourceTemplates")

    async def prompts(self) -> list[dict[str, Any]]:
        """Return all prompts."""
        return await self._pages("list_prompts", "prompts")

    async def call(
        self, name: str, arguments: Mapping[str, Any] | None = None, progress: Progress | None = None
    ) -> dict[str, Any]:
        """Call a tool."""

        async def note(done: float, total: float | None, message: str | None) -> None:
            assert progress is not None
            progress.append((done, total, message))

        callback = note if progress is not None else None
        return plain(await self.session.call_tool(name, dict(arguments or {}), progress_callback=callback))

    async def cancel_call(self, task: asyncio.Task[Any], request_id: int | None) -> None:
        """Cancel a call; version 1 of the client does not tell the server by itself."""
        if not IS_SECOND:
            params = types.CancelledNotificationParams(requestId=request_id, reason="enough")
            note = types.CancelledNotification(method="notifications/cancelled", params=params)
            await self.session.send_notification(types.ClientNotification(note))
        task.cancel()
        await asyncio.wait({task})

    def next_id(self) -> int | None:
        """Return the ID of the next request."""
        return None if IS_SECOND else self.session._request_id

    async def read(self, uri: str) -> list[dict[str, Any]]:
        """Return the contents of a resource."""
        given: Any = uri
        if not IS_SECOND:
            from pydantic import AnyUrl

            given = AnyUrl(uri)
        return plain(await self.session.read_resource(given))["contents"]

    async def prompt(self, name: str, arguments: dict[str, str] | None = None) -> dict[str, Any]:
        """Return a prompt."""
        return plain(await self.session.get_prompt(name, arguments))

    async def complete(self, prompt: str, argument: str, typed: str) -> list[str]:
        """Return suggestions for an argument of a prompt."""
        reference = types.PromptReference(type="ref/prompt", name=prompt)
        found = await self.session.complete(reference, {"name": argument, "value": typed})
        return plain(found)["completion"]["values"]

    async def page(self, method: str, cursor: str | None) -> dict[str, Any]:
        """Return one page of a list."""
        params = types.PaginatedRequestParams(cursor=cursor) if cursor is not None else None
        return plain(await getattr(self.session, method)(params=params))

    async def _pages(self, method: str, key: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            page = await self.page(method, cursor)
            found += page[key]
            cursor = page.get("nextCursor")
            if cursor is None:
                return found


def plain(result: Any) -> dict[str, Any]:
    """Return a result as it is on the wire."""
    return result.model_dump(mode="json", by_alias=True, exclude_none=True)


@asynccontextmanager
async def connected(
    url: str,
    headers: Mapping[str, str] | None = None,
    era: str = "legacy",
    updated: list[str] | None = None,
    elicit: Any = None,
) -> AsyncGenerator[McpClient]:
    """Connect with the endpoint of a server.

    Args:
        updated: gets the URIs of resources of which the server reports a change.
        elicit: asks the user; None: the client cannot.
    """
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(create_mcp_http_client(headers=dict(headers or {})))
        streams = await stack.enter_async_context(streamable_http_client(f"{url}/mcp", http_client=http))

        async def note(message: Any) -> None:
            found = getattr(message, "root", message)
            if updated is not None and getattr(found, "method", "") == "notifications/resources/updated":
                updated.append(str(found.params.uri))

        session: Any = await stack.enter_async_context(
            ClientSession(streams[0], streams[1], message_handler=note, elicitation_callback=elicit)
        )
        await (session.discover() if era == "modern" else session.initialize())
        yield McpClient(session, era, updated)
