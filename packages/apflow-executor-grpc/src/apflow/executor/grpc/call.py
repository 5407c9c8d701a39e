"""Making one call: messages in, JSON out, bounded while it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import grpc.aio
from google.protobuf.message import Message
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from apflow.core.concurrency.thread_pool import ThreadPool
from apflow.core.model.task import Json
from apflow.core.payload.json_value import dumps, loads
from apflow.executor.grpc.description import Description, Method
from apflow.executor.grpc.errors import GrpcOutputError, GrpcResponseError
from apflow.executor.grpc.message import decode, to_json, unknown_types
from apflow.executor.grpc.metadata import Pairs, show_metadata

LARGE = 1 << 15  # bytes of a message from which on making JSON of it would hold up the event loop
MAX_ROUNDS = 5  # of asking for what is inside an `Any` inside an `Any`

Learn = Callable[[set[str]], Awaitable[bool]]
_InternalError: type[Exception] = cast("Any", cygrpc).InternalError
_Call = Any  # of the library: four classes without a base that says what they share

threads = ThreadPool("apflow-grpc", 2)


@dataclass(slots=True)
class Answer:
    """What has come back so far, up to the limits."""

    max_bytes: int  # of all responses, as JSON
    max_responses: int | None = None
    responses: list[Json] = field(default_factory=list[Json])
    metadata: dict[str, str | list[str]] = field(default_factory=dict[str, str | list[str]])
    is_truncated: bool = False
    _bytes: int = 0

    def add(self, response: Json, size: int) -> None:
        """Take a response, unless there is no room for it."""
        if self._bytes + size > self.max_bytes:
            self.is_truncated = True
            return
        self._bytes += size
        self.responses.append(response)
        self.is_truncated = len(self.responses) == self.max_responses


@dataclass(frozen=True, slots=True)
class Exchange:
    """One call of a method. `learn` is asked for types that are not described."""

    method: Method
    description: Description
    metadata: Pairs
    learn: Learn

    async def run(
        self, channel: grpc.aio.Channel, requests: Sequence[bytes], timeout: float, answer: Answer
    ) -> None:
        """Make the call and put what comes back into `answer`. However this ends, so does the call.

        Raises:
            AioRpcError: it ended with another status than OK.
            GrpcOutputError: there is no room for the only response.
            GrpcResponseError: a response cannot be read.
        """
        # One message goes out as a whole: the server cannot tell, and nothing is left to be written.
        is_streamed = self.method.takes_stream and len(requests) != 1
        call = self._start(channel, () if is_streamed else requests, timeout, is_streamed=is_streamed)
        writing = asyncio.ensure_future(_write(call, requests)) if is_streamed else None
        try:
            if self.method.gives_stream:
                await self._read_all(call, answer)
            else:
                await self._read_one(call, answer)
            pairs = list(await call.initial_metadata())
            if not answer.is_truncated:
                pairs += await call.trailing_metadata()
            answer.metadata = show_metadata(pairs)
        finally:
            call.cancel()
            if writing is not None:
                writing.cancel()
                await asyncio.wait([writing])

    def _start(
        self, channel: grpc.aio.Channel, requests: Sequence[bytes], timeout: float, *, is_streamed: bool
    ) -> _Call:
        kinds = ("stream" if each else "unary" for each in (is_streamed, self.method.gives_stream))
        start: Any = getattr(channel, "_".join(kinds))(self.method.path)
        return start(*requests, timeout=timeout, metadata=self.metadata)

    async def _read_one(self, call: _Call, answer: Answer) -> None:
        answer.max_responses = None
        answer.add(*await self._shown(await call))
        if answer.is_truncated:
            raise GrpcOutputError(self.method.shown, answer.max_bytes)

    async def _read_all(self, call: _Call, answer: Answer) -> None:
        responses = aiter(call)
        try:
            async for data in responses:
                answer.add(*await self._shown(data))
                if answer.is_truncated:
                    return
        finally:
            await responses.aclose()

    async def _shown(self, data: bytes) -> tuple[Json, int]:
        """Return a response as JSON, and the size of that."""
        message = decode(self.description, self.method.response, data)
        show = partial(_show, self.description, message)
        unknown: set[str] = set()
        for _ in range(MAX_ROUNDS):
            try:
                return await threads.run(show) if len(data) > LARGE else show()
            except GrpcResponseError:
                known_before, unknown = unknown, unknown_types(self.description, message)
                if not unknown - known_before or not await self.learn(unknown):
                    raise
        raise GrpcResponseError(f"A response of {self.method.shown} has too many types inside each other.")


def _show(description: Description, message: Message) -> tuple[Json, int]:
    text = dumps(to_json(description, message))
    return loads(text), len(text)


async def _write(call: _Call, requests: Sequence[bytes]) -> None:
    """Write messages until the call ends. The reader receives the status.

    Not by `call.write`: where the server ends the call before it has read everything, that puts INTERNAL
    in the place of what the server says (grpcio 1.85, https://github.com/grpc/grpc/issues/36066).
    """
    with suppress(grpc.aio.AioRpcError, _InternalError):
        await call.wait_for_connection()
        for each in requests:
            await call._cython_call.send_serialized_message(each)  # noqa: SLF001
        await call.done_writing()
