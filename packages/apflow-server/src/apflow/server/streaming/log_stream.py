"""Streams of log lines over HTTP: `text/event-stream`, from the beginning or from the last known line.

Each line is an event `line`, with its number as `id`, so that a stream can continue from `Last-Event-ID`.
After the end of the run, an event `end` follows, and the stream is closed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Header, Path, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from apflow.core.events.log_follower import LogFollower
from apflow.core.model.task import Json
from apflow.core.service.logs import Names
from apflow.core.service.task_service import TaskService
from apflow.server.auth.authentication import current_service
from apflow.server.streaming.event_stream import COME_BACK, Streams, TreeStream, read_number
from apflow.server.streaming.sse_frames import named, pieces

MAX_NUMBER: Final = 2**53 - 1
END: Final = named("end", {})

router = APIRouter(tags=["streams"])


@router.get(
    "/tasks/{task_id:path}/logs",
    summary="Follow what a task and its descendants log.",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "Lines, and `end` after the last one."},
        400: {"description": "A parameter is invalid."},
        404: {"description": "There is no such task."},
    },
)
async def logs(
    request: Request,
    task_id: Annotated[str, Path()],
    service: Annotated[TaskService, Depends(current_service)],
    attempt: Annotated[int | None, Query(ge=1, description="Only lines of this attempt")] = None,
    after: Annotated[
        int | None, Query(ge=0, le=MAX_NUMBER, description="Number of the last line that is known")
    ] = None,
    level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] | None,
        Query(description="Only lines of this level or a higher one"),
    ] = None,
    last_event_id: Annotated[str | None, Header(description="The same as `after`, which it replaces")] = None,
) -> Response:
    """Follow what a task and its descendants log; for a root, the whole tree."""
    request.app.state.streams.check(request.state.caller)
    number = read_number(last_event_id, after) or 0
    follower = await service.log_follower(task_id, attempt=attempt, after=number, level=level)
    return LogStream(service, follower)


class LogStream(TreeStream):
    """A response with the lines of a follower."""

    def __init__(self, service: TaskService, follower: LogFollower) -> None:
        super().__init__(service.db, follower.root_id, [COME_BACK])
        self._service = service
        self._follower = follower

    async def pieces(self, streams: Streams) -> AsyncGenerator[bytes]:
        """Yield the frames of the lines, and the end."""
        del streams
        names: Names = {}
        async with aclosing(self._follower.batches()) as batches:
            async for lines in batches:
                for piece in pieces(map(_frame, await self._service.shown_lines(lines, names))):
                    yield piece
        yield END


def _frame(line: dict[str, Json]) -> bytes:
    return b"id: %d\n" % line["number"] + named("line", line)
