"""Lists that stay up to date: the answers to calls of JSON-RPC, sent again whenever they have changed.

A stream of server-sent events. Each event is the answer to one call. The calls are made again for the caller
each time, so that it receives what it may see. The `id` of an event says which answers the client has then:
it has a digest of each, so that a client which comes back with it, also after a restart of the server,
receives only what has changed in the meantime.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from hashlib import blake2b
from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, Depends, Header
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from apflow.core.model.task import Json
from apflow.core.payload.json_value import dumps
from apflow.core.service.operations import OPERATIONS
from apflow.core.service.task_service import TaskService
from apflow.server.api import dispatch
from apflow.server.api.json_rpc import Call, answered, failed, read_call
from apflow.server.api.openapi import REFERENCE, refusals
from apflow.server.auth.authentication import current_service
from apflow.server.http.api_error import MalformedRequestError, api_error_of
from apflow.server.http.limits import read_json
from apflow.server.http.response import as_json
from apflow.server.streaming.change_watch import MAX_WAIT_SECONDS, ChangeWatch
from apflow.server.streaming.event_stream import COME_BACK, SentStream, Streams
from apflow.server.streaming.sse_frames import named

MAX_CALLS: Final = 10  # of one stream
MIN_INTERVAL_SECONDS: Final = 1.0  # between two readings of one stream
PAUSE_FACTOR: Final = 4  # a stream pauses for as many times as long as its reading took
DIGEST_BYTES: Final = 9
SEPARATOR: Final = "-"

BATCH_SCHEMA: Final[dict[str, Json]] = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_CALLS,
    "items": {"$ref": REFERENCE.format(model="RpcRequest")},
}

SUCCESS: Final[dict[str, Json]] = {
    "content": {"text/event-stream": {}},
    "description": "Answers of JSON-RPC, as they change.",
}
RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    int(status): described for status, described in ({"200": SUCCESS} | refusals()).items()
}

router = APIRouter(tags=["streams"])


@router.post(
    "/follow",
    summary="Follow lists: receive the answers to calls, and each again whenever it has changed.",
    response_class=StreamingResponse,
    responses=RESPONSES,
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/json": {"schema": BATCH_SCHEMA}}}
    },
)
async def follow(
    request: Request,
    service: Annotated[TaskService, Depends(current_service)],
    last_event_id: Annotated[
        str, Header(description="The last `id` that is known: its answers are not sent again")
    ] = "",
) -> Response:
    """Send the answers to a batch of JSON-RPC, and each of them again whenever it has changed."""
    request.app.state.streams.check(request.state.caller)
    calls = read_calls(await read_json(request, request.app.state.settings))
    request.app.state.rate.check_user(service.user_id, len(calls) - 1)
    return AnswerStream(service, request, calls, known_digests(last_event_id, len(calls)))


def read_calls(given: Json) -> list[Call]:
    """Read the calls of a stream.

    Raises:
        MalformedRequestError: they are not a batch, or one of them cannot be followed.
    """
    if not isinstance(given, list) or not 0 < len(cast("list[Json]", given)) <= MAX_CALLS:
        raise MalformedRequestError(f"Send an array of 1 to {MAX_CALLS} requests of JSON-RPC.")
    calls = [read_call(each) for each in cast("list[Json]", given)]
    for call in calls:
        operation = OPERATIONS.get(call.method)
        if operation is None or not operation.can_be_followed:
            lists = ", ".join(name for name, each in OPERATIONS.items() if each.can_be_followed)
            raise MalformedRequestError(f"{call.method[:100]!r} cannot be followed. These can: {lists}.")
    return calls


def known_digests(last_event_id: str, count: int) -> list[str]:
    """Return the digest of each answer that the client has; "" for those that it does not have."""
    digests = last_event_id.split(SEPARATOR)
    return digests if len(digests) == count else [""] * count


class AnswerStream(SentStream):
    """A response with the answers to calls.

    Args:
        known: digests of the answers that the client has.
    """

    def __init__(
        self, service: TaskService, request: Request, calls: Sequence[Call], known: list[str]
    ) -> None:
        super().__init__("A list", [COME_BACK])
        self._service, self._request = service, request
        self._calls, self._known = calls, known

    async def pieces(self, streams: Streams) -> AsyncGenerator[bytes]:
        """Yield the frames of the answers that have changed."""
        del streams
        watch = ChangeWatch(self._service.db)
        with watch.noticing():
            while True:
                watch.mark()
                begun = time.monotonic()
                has_failed = False
                for at, call in enumerate(self._calls):
                    answer = await self._answer(call)
                    has_failed |= "error" in answer
                    frame = self._frame(at, answer)
                    if frame is not None:
                        yield frame
                await watch.wait(pause_after(time.monotonic() - begun, has_failed=has_failed))

    async def _answer(self, call: Call) -> dict[str, Json]:
        try:
            parsed = dispatch.parse(call.method, call.params)
            return answered(call, as_json(await dispatch.call(self._service, parsed, self._request)))
        except Exception as error:  # noqa: BLE001 - the border: every error becomes an answer
            return failed(call, api_error_of(error))

    def _frame(self, at: int, answer: dict[str, Json]) -> bytes | None:
        """Return the frame of an answer; None if the client has that answer."""
        digest = blake2b(dumps(answer), digest_size=DIGEST_BYTES).hexdigest()
        if digest == self._known[at]:
            return None
        self._known[at] = digest
        return b"id: %s\n" % SEPARATOR.join(self._known).encode() + named("answer", answer)


def pause_after(seconds: float, *, has_failed: bool) -> float:
    """Return how many seconds to wait at least after a reading that took `seconds`."""
    return MAX_WAIT_SECONDS if has_failed else max(MIN_INTERVAL_SECONDS, PAUSE_FACTOR * seconds)
