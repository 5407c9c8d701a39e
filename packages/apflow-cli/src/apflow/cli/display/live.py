"""The live tree: what runs, shown on standard error while it runs, where that is a terminal."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from typing import TypeVar

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from apflow.cli.display.output import STYLES
from apflow.cli.display.view import Row, View
from apflow.core.concurrency.timed_wait import wait_up_to
from apflow.core.model.task import Json
from apflow.core.service.task_service import TaskService

Answer = TypeVar("Answer")

INTERVAL = 0.1  # seconds between two pictures
FIRST_EVENT = 5.0  # seconds to wait for the first event of a tree, before the work starts in any case
MARKS = {"pending": "·", "completed": "✓", "failed": "✗", "cancelled": "■", "skipped": "»"}


def is_wanted() -> bool:
    """Return whether there is a terminal for a live view of the tree."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


async def shown(
    service: TaskService, root: Mapping[str, Json], work: Callable[[], Awaitable[Answer]]
) -> Answer:
    """Do the work that runs a tree, and show the tree meanwhile.

    Args:
        work: starts the work. It is called when the tree is watched: messages of tasks are not stored.
    """
    is_watched = asyncio.Event()
    picture = _Picture(View(root), Console(stderr=True))
    # If standard output is the same terminal, the final result replaces the live view.
    is_transient = sys.stdout.isatty()
    with Live(
        console=picture.console, get_renderable=picture.draw, auto_refresh=False, transient=is_transient
    ) as live:
        try:
            following = _follow(service, root["id"], picture.view, is_watched)
            answer = await _meanwhile(_after(is_watched, work), following, _refresh(live))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures
        if not is_transient:
            picture.view = View(await service.tree(root["id"]))
        return answer


async def followed(
    events: AsyncIterator[Mapping[str, Json]],
) -> AsyncGenerator[Mapping[str, Json], None]:
    """Show the tree that events describe, the first of which is a snapshot, and pass the events on.

    The last picture stays on the terminal.
    """
    first = await anext(events)
    picture = _Picture(View(first["data"]), Console(stderr=True))
    with Live(console=picture.console, get_renderable=picture.draw, auto_refresh=False) as live:
        refreshing = asyncio.create_task(_refresh(live), name="apflow:live")
        try:
            yield first
            async for event in events:
                picture.view.apply(event)
                yield event
        finally:
            refreshing.cancel()
            await asyncio.wait({refreshing})


async def _meanwhile(work: Awaitable[Answer], *others: Coroutine[None, None, None]) -> Answer:
    """Do the work, and the others until it ends."""
    async with asyncio.TaskGroup() as group:
        started = [group.create_task(each, name="apflow:live") for each in others]
        try:
            return await work
        finally:
            for each in started:
                each.cancel()


async def _after(is_watched: asyncio.Event, work: Callable[[], Awaitable[Answer]]) -> Answer:
    await wait_up_to(FIRST_EVENT, is_watched)
    return await work()


async def _follow(service: TaskService, root_id: str, view: View, is_watched: asyncio.Event) -> None:
    """Keep a view up to date, from run to run: a tree that ended before may be about to run again.

    Args:
        is_watched: is set with the first event.
    """
    after = 0
    while True:
        async with aclosing(service.watch(root_id, after)) as events:
            async for event in events:
                is_watched.set()
                view.apply(event)
                after = event["sequence"]
        await asyncio.sleep(INTERVAL)


async def _refresh(live: Live) -> None:
    while True:
        with suppress(OSError):  # the terminal has closed; SIGHUP follows
            live.refresh()
        await asyncio.sleep(INTERVAL)


class _Picture:
    """A view, drawn to fit a terminal."""

    def __init__(self, view: View, console: Console) -> None:
        self.view = view
        self.console = console
        self.spinner = Spinner("dots")

    def draw(self) -> Group:
        """Draw the tree, and below it how far the whole is."""
        lines = Table.grid(padding=(0, 1))
        for row in self.view.visible(max(1, self.console.height - 3)):
            lines.add_row(*self._line(row))
        total = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=1.0, completed=self.view.fraction, width=min(30, self.console.width // 4))
        counts = Text(self.view.counts(), "dim", no_wrap=True, overflow="ellipsis")
        total.add_row(bar, Text(f"{self.view.ended}/{len(self.view.rows)}", no_wrap=True), counts)
        return Group(lines, total)

    def _line(self, row: Row) -> tuple[Text | Spinner, ...]:
        style = STYLES[row.status]
        is_active = row.status == "in_progress"
        mark = self.spinner if is_active else Text(MARKS[row.status], style)
        percent = f"{row.progress:.0%}" if is_active and row.progress else ""
        return (
            mark,
            Text("  " * row.depth + row.name, style, no_wrap=True, overflow="ellipsis"),
            Text(percent, style),
            Text(row.shown, "red" if row.status == "failed" else "dim", no_wrap=True, overflow="ellipsis"),
        )
