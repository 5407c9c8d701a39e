"""Reading streams of events in tests: once, or on and on as a browser does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

Event = dict[str, Any]
FINAL = {"tree_completed", "tree_failed", "tree_cancelled"}


def client_of(url: str, **more: Any) -> httpx.AsyncClient:
    """Return a client of a server, for any number of streams at once."""
    return httpx.AsyncClient(
        base_url=url, timeout=60, trust_env=False, limits=httpx.Limits(max_connections=None), **more
    )


async def read(lines: AsyncIterator[str]) -> AsyncIterator[Event]:
    """Yield the frames of a stream: `id`, `event`, `data`; comments as `comment`."""
    found: Event = {}
    async for line in lines:
        name, _, value = line.partition(": ")
        if not line:
            if found:
                yield found
            found = {}
        elif line.startswith(":"):
            yield {"comment": line[1:].strip()}
        elif name != "retry":
            found[name] = json.loads(value) if name == "data" else value


async def follow(
    client: httpx.AsyncClient, task_id: str, *, count: int | None = None, **more: Any
) -> list[Event]:
    """Return the events of a tree from a stream: all, or the first `count`."""
    return await read_stream(client, f"/tasks/{task_id}/events", count=count, **more)


async def read_stream(
    client: httpx.AsyncClient, path: str, *, count: int | None = None, **more: Any
) -> list[Event]:
    """Return what a stream sends, without comments: all, or the first `count`."""
    found: list[Event] = []
    async with client.stream("GET", path, **more) as response:
        assert response.status_code == 200, response.status_code
        assert response.headers["content-type"].startswith("text/event-stream")
        async for event in read(response.aiter_lines()):
            if "comment" not in event:
                found.append(event)
            if len(found) == count:
                break
    return found


def numbers(events: list[Event]) -> list[int]:
    """Return the numbers of the stored events among these."""
    return [int(event["id"]) for event in events if "id" in event]


@dataclass
class Watcher:
    """Follows a tree to its end, and comes back whenever the stream breaks off."""

    root_id: str
    url: Callable[[], str]  # of the server, as it is now
    events: list[Event] = field(default_factory=list[Event])
    breaks: int = 0

    async def watch(self) -> None:
        """Follow the tree from its first event to its final one."""
        while not (self.events and self.events[-1]["event"] in FINAL):
            known = numbers(self.events)[-1:] or [0]
            try:
                async with client_of(self.url()) as client:
                    headers = {"Last-Event-ID": str(known[0])}
                    async with client.stream(
                        "GET", f"/tasks/{self.root_id}/events", headers=headers
                    ) as response:
                        assert response.status_code == 200, response.status_code
                        async for event in read(response.aiter_lines()):
                            if "comment" not in event:
                                self.events.append(event)
            except httpx.TransportError:
                self.breaks += 1
                await asyncio.sleep(0.05)  # as `retry` asks a browser to
