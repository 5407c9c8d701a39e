"""The one module that knows the `mcp` library: its lines 1 (from 1.30) and 2 (from 2.3).

Requests and results are plain JSON here: both lines send any model that has a method and parameters, and both
return a result as the model that they are given. Names of types and fields, which differ, are therefore not
needed. What does differ: how messages are parsed, which HTTP library is used (httpx, httpx2), and that line 1
does not tell the server that a request was cancelled.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Any, ClassVar, Final, Literal, Protocol

import httpx
from mcp import ClientSession
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.message import SessionMessage
from pydantic import BaseModel, ConfigDict, RootModel

from apflow.core.plugins import version
from apflow.executor.mcp.httpx2_transport import make_httpx2_client
from apflow.executor.mcp.link import Link
from apflow.executor.mcp.sampling import Sampler, SamplingRefusedError
from apflow.executor.mcp.task_handle import EXTENSION

IS_LINE_1: Final = find_spec("mcp_types") is None
CANCEL_SECONDS: Final = 1.0  # to tell the server that a request was cancelled
CONNECTION_CLOSED: Final = -32000
METHOD_NOT_FOUND: Final = -32601
INTERNAL_ERROR: Final = -32603
UNSUPPORTED_VERSION: Final = -32022
TASK_METHODS: Final = "tasks/"  # what the methods begin with that are for tasks
MODERN: Final = (METHOD_NOT_FOUND, UNSUPPORTED_VERSION)  # how a server without a handshake refuses one

# The library logs every message, credentials included, also to the root logger.
LOGGERS: Final = (
    "", "client", "mcp.client.sse", "mcp.client.session", "mcp.client.streamable_http",
    "mcp.shared.dispatcher", "mcp.shared.jsonrpc_dispatcher", "mcp.shared.session", "httpx", "httpx2",
)  # fmt: skip

Json = Any
Streams = tuple[Any, Any]  # what a session reads messages from and writes them to
OnProgress = Callable[[float, float | None, str | None], Awaitable[None]]

_types: Any = importlib.import_module("mcp.types" if IS_LINE_1 else "mcp_types")
_exceptions: Any = importlib.import_module("mcp.shared.exceptions")
RpcError: type[Exception] = _exceptions.McpError if IS_LINE_1 else _exceptions.MCPError


class _NotOurs(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        del record
        return not is_library_quiet.get()


# Whether the library must not log in the current context.
is_library_quiet: ContextVar[bool] = ContextVar("apflow_mcp_quiet", default=False)
for _name in LOGGERS:
    logging.getLogger(_name).addFilter(_NotOurs())


class RawRequest(BaseModel):
    """A request or a notification."""

    name_param: ClassVar[str | None] = None  # line 2 asks for it
    method: str
    params: dict[str, Json] | None = None


class TaskRequest(RawRequest):
    """A request for a task of the server, which proxies route by the task."""

    name_param: ClassVar[str | None] = "taskId"


class RawResult(RootModel[dict[str, Json]]):
    """A result, unchanged."""


class Session(Protocol):
    """An established session."""

    async def request(
        self, method: str, params: Mapping[str, Json], on_progress: OnProgress | None = None
    ) -> dict[str, Json]:
        """Return the result of a request. If the caller is cancelled, the server is notified."""
        ...


class _Session:
    def __init__(self, session: Any, link: Link) -> None:
        self._session, self._link = session, link

    async def request(
        self, method: str, params: Mapping[str, Json], on_progress: OnProgress | None = None
    ) -> dict[str, Json]:
        is_library_quiet.set(True)
        make = TaskRequest if method.startswith(TASK_METHODS) else RawRequest
        request = make(method=method, params=dict(params) or None)
        number = self._session._request_id if IS_LINE_1 else None  # noqa: SLF001 - of this request
        try:
            if not IS_LINE_1 and "task" in params:
                return await self._send_unchecked(request)
            result = await self._session.send_request(request, RawResult, progress_callback=on_progress)
        except asyncio.CancelledError:
            self._link.abandoned += 1
            if number is not None:
                await self._cancel(number)
            raise
        content: dict[str, Json] = result.root
        return content

    async def _send_unchecked(self, request: RawRequest) -> dict[str, Json]:
        """Return a result that line 2 would refuse: it does not know the handles of tasks of 2025-11-25."""
        session, data, options = self._session, request.model_dump(), dict[str, Any]()
        session._stamp(data, options)  # noqa: SLF001
        dispatcher = session._dispatcher  # noqa: SLF001
        result: dict[str, Json] = await dispatcher.send_raw_request(request.method, data["params"], options)
        return result

    async def _cancel(self, number: int) -> None:
        params = {"requestId": number, "reason": "The task was cancelled, or its time is over."}
        with suppress(Exception):
            async with asyncio.timeout(CANCEL_SECONDS):
                await self._session.send_notification(
                    RawRequest(method="notifications/cancelled", params=params)
                )


@asynccontextmanager
async def open_session(
    streams: Streams,
    link: Link,
    on_exception: Callable[[Exception], object],
    *,
    is_probing: bool,
    sampler: Sampler | None = None,
) -> AsyncGenerator[Session]:
    """Yield a session over the streams of a transport, after the handshake.

    Args:
        on_exception: called with what the transport reports as an error.
        is_probing: whether to ask first whether the server needs a handshake, if the library can do that.
        sampler: answers requests of the server for a language model; None: they are refused.
    """

    async def on_log(params: Any) -> None:
        link.hear_log(_log_text(params), str(params.level))

    async def on_message(message: Any) -> None:
        if isinstance(message, Exception):
            on_exception(message)

    info = _types.Implementation(name="apflow", version=version("apflow-executor-mcp") or "")
    more = {} if IS_LINE_1 else _extensions()
    if sampler is not None:
        more["sampling_callback"] = _sampling_callback(sampler)
    session: Any = ClientSession(
        *streams, logging_callback=on_log, message_handler=on_message, client_info=info, **more
    )
    async with session:
        await _negotiate(session, is_probing=is_probing and not IS_LINE_1)
        yield _Session(session, link)


def _sampling_callback(sampler: Sampler) -> Callable[[Any, Any], Awaitable[Any]]:
    async def on_sampling(_: Any, params: Any) -> Any:
        is_library_quiet.set(True)
        try:
            found = await sampler.answer(params.model_dump(mode="json", by_alias=True, exclude_none=True))
        except SamplingRefusedError as error:
            return _types.ErrorData(code=INTERNAL_ERROR, message=str(error))
        return _types.CreateMessageResult.model_validate(found)

    return on_sampling


def _extensions() -> dict[str, Any]:
    """Return what declares to servers that calls may return tasks, where the protocol has them (line 2)."""
    extension: Any = importlib.import_module("mcp.client.extension")

    class CreateTaskResult(_types.Result):  # type: ignore[misc]
        model_config = ConfigDict(extra="allow")
        result_type: Literal["task"]

    async def unused(*_: object) -> Any:
        raise AssertionError("only `call_tool` resolves tasks; requests are sent by `send_request`")

    claim = extension.ResultClaim(result_type="task", model=CreateTaskResult, resolve=unused)
    return {"extensions": {EXTENSION: {}}, "result_claims": {EXTENSION: [claim]}}


async def _negotiate(session: Any, *, is_probing: bool) -> None:
    """Agree on a revision of the protocol: by the handshake, or without one from 2026-07-28 on.

    A program may not respond to a request before the handshake, so only servers at addresses are probed.
    """
    if is_probing:
        await importlib.import_module("mcp.client._probe").negotiate_auto(session)
        return
    try:
        await session.initialize()
    except RpcError as error:
        if IS_LINE_1 or rpc_error(error)[0] not in MODERN:
            raise
        await session.discover()


def rpc_error(error: Exception) -> tuple[int, str]:
    """Return the code and the message of an `RpcError`."""
    data: Any = error
    return data.error.code, data.error.message


def is_closed(error: Exception) -> bool:
    """Return whether an `RpcError` is not a response, but says that the connection has ended."""
    code, message = rpc_error(error)
    return code == CONNECTION_CLOSED and message.lower().startswith("connection closed")


def parse_message(line: bytes) -> SessionMessage | None:
    """Return the message in a line; None if it is not a JSON-RPC message."""
    try:
        if IS_LINE_1:
            return SessionMessage(_types.JSONRPCMessage.model_validate_json(line))
        return SessionMessage(_types.jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError:  # pydantic's ValidationError is one
        return None


def dump_message(message: SessionMessage) -> bytes:
    """Return a message as JSON, without a newline."""
    text: str = message.message.model_dump_json(
        by_alias=True, exclude_none=IS_LINE_1, exclude_unset=not IS_LINE_1
    )
    return text.encode()


@asynccontextmanager
async def http_streams(
    url: str, headers: Mapping[str, str], transport: httpx.AsyncBaseTransport, *, is_sse: bool
) -> AsyncGenerator[Streams]:
    """Yield the streams of a connection by HTTP, all of whose requests go through `transport`."""

    def make_client(
        headers: Mapping[str, str] | None = headers, timeout: Any = None, auth: Any = None
    ) -> Any:
        del timeout, auth  # the caller of an operation limits its time
        # Compressed answers would not be bounded by their size.
        sent = {**(headers or {}), "Accept-Encoding": "identity"}
        if IS_LINE_1:
            unlimited = httpx.Timeout(None)
            return httpx.AsyncClient(transport=transport, headers=sent, timeout=unlimited, trust_env=False)
        return make_httpx2_client(transport, sent)

    connect: Any
    if is_sse:
        connect = sse_client
        async with connect(url, headers=dict(headers), httpx_client_factory=make_client) as streams:
            yield streams[0], streams[1]
    else:
        connect = streamable_http_client
        async with make_client() as client, connect(url, http_client=client) as streams:
            yield streams[0], streams[1]


def _log_text(params: Any) -> str:
    data = params.data
    text = data if isinstance(data, str) else RootModel[Any](data).model_dump_json()
    return f"{params.logger}: {text}" if params.logger else text
