"""The client for asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx
from httpx_sse import EventSource, SSEError
from tenacity import AsyncRetrying

from apflow.client._generated_operations import AsyncOperations
from apflow.client.answer import read_typed
from apflow.client.call import Call, call_of, error_of, read_answer, without_defaults
from apflow.client.errors import ServerBusyError, ServerError
from apflow.client.exchange import async_transport, too_large, unreachable
from apflow.client.outcome import outcome_of, read_execution
from apflow.client.repetition import rules_of
from apflow.client.target import check_seconds, target_of
from apflow.client.watching import BoundedStream, LogWatching, Watching
from apflow.core.model.task import Json
from apflow.core.process.new_file import create_private, new_file
from apflow.core.service.results import Event, LogLineResult

BACKUP_SECONDS: Final = 3600.0  # that a server may take to copy its database


class Client(AsyncOperations):
    """The operations of a server as methods: `await client.tasks_get(task_id)`. Use it as a context manager.

    Args:
        base_url: address of the server; by default APFLOW_API_URL.
        token: bearer token; by default APFLOW_API_TOKEN, if `base_url` is None as well.
        timeout: seconds for each step of a call: connect, send, receive.
        headers: additional headers of every request.
        transport: a transport to use instead of a connection pool; the client does not close it.
        patience: seconds during which a repeatable call is repeated.
        reconnect_for: seconds for which the server may be unreachable during a `watch`.
        silence: seconds without a heartbeat after which a stream is resumed.
        max_bytes: maximum size of an answer, and of an event.

    Raises:
        InvalidInputError: `base_url` is not a valid address, or a header cannot be sent.
    """

    def __init__(
        self,
        base_url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = 30.0,
        headers: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        patience: float = 10.0,
        reconnect_for: float = 60.0,
        silence: float = 45.0,
        max_bytes: int = 64 << 20,
    ) -> None:
        self._target = target_of(
            base_url,
            token,
            headers,
            timeout=timeout,
            patience=patience,
            reconnect_for=reconnect_for,
            silence=silence,
            max_bytes=max_bytes,
        )
        self._http = httpx.AsyncClient(
            headers=self._target.headers, transport=async_transport(self._target, transport)
        )

    @property
    def url(self) -> str:
        """The address of the server."""
        return self._target.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def call(
        self, name: str, params: Mapping[str, Json] | None = None, *, patience: float | None = None
    ) -> Json:
        """Call an operation by name and return its result as plain JSON.

        `tasks.execute` with `wait` requests the run and follows its events, so that the call survives a
        restart of the server. For an operation that yields events, use `events`.

        Args:
            params: the parameters of the operation by name, as plain JSON; None for none.
            patience: seconds that replace the patience of the client for this call; None for the client's.

        Raises:
            ApflowError: the error that the server returned, as the core's class for it.
            ServerUnreachableError: the server does not answer.
            ServerError: the server failed, or its answer is invalid.
        """
        sent, is_waiting = read_execution(call_of(name, params or {}))
        result = await self._call(sent, patience)
        return await self.end_of(result) if is_waiting else result

    async def end_of(self, executed: Mapping[str, Json]) -> dict[str, Json]:
        """Follow a requested run until it has ended, and return its outcome.

        Args:
            executed: the result of `tasks.execute`.

        Raises:
            ServerUnreachableError: the server was unreachable for too long.
        """
        root_id = executed["root_task_id"]
        async with aclosing(self.events(root_id)) as events:
            async for _ in events:
                pass
        within = self._target.reconnect_for
        [standing] = await self.call("tasks.running.status", {"task_ids": [root_id]}, patience=within)
        root = await self.call("tasks.get", {"task_id": root_id}, patience=within)
        return outcome_of(executed, standing, root)

    async def watch(self, task_id: str, after: int | None = None) -> AsyncGenerator[Event, None]:
        """Yield the events of a task's tree until the final event, over several connections if necessary.

        Without `after`, the number of the last event that the caller has, the first event is a `snapshot`.

        Raises:
            NotFoundError: the task does not exist, or was deleted.
            ServerUnreachableError: the server was unreachable for too long.
        """
        async with aclosing(self.events(task_id, after)) as events:
            async for event in events:
                yield Event.model_validate(event)

    async def events(self, task_id: str, after: int | None = None) -> AsyncGenerator[dict[str, Json], None]:
        """Yield the same events as `watch`, as plain JSON; see `watch` for parameters and errors."""
        watching = Watching(after, self._target.reconnect_for)
        async with aclosing(self._follow(task_id, self._target.events_url(task_id), watching)) as events:
            async for event in events:
                yield event

    async def follow_logs(
        self, task_id: str, *, attempt: int | None = None, after: int = 0, level: str | None = None
    ) -> AsyncGenerator[LogLineResult, None]:
        """Yield what a task and its descendants have logged, and then log until the run has ended.

        Args:
            task_id: ID of the task; for a root, the lines are those of the whole tree.
            attempt: only lines of the attempt with this number.
            after: number of the last line that the caller has; start after it.
            level: only lines of this level or a higher one.

        Raises:
            NotFoundError: the task does not exist, or was deleted.
            ServerUnreachableError: the server was unreachable for too long.
        """
        lines = self.log_lines(task_id, attempt=attempt, after=after, level=level)
        async with aclosing(lines) as followed:
            async for line in followed:
                yield LogLineResult.model_validate(line)

    async def log_lines(
        self, task_id: str, *, attempt: int | None = None, after: int = 0, level: str | None = None
    ) -> AsyncGenerator[dict[str, Json], None]:
        """Yield the same lines as `follow_logs`, as plain JSON; see `follow_logs` for parameters."""
        following = LogWatching(after, self._target.reconnect_for)
        url = self._target.logs_url(task_id, {"attempt": attempt, "level": level})
        async with aclosing(self._follow(task_id, url, following)) as lines:
            async for line in lines:
                yield line

    async def backup(self, path: Path) -> None:
        """Download a consistent copy of the server's database into a new file of this machine.

        The caller must be an admin, and the database a DuckDB file. The file appears when it is complete.

        Raises:
            InvalidInputError: the file exists, its directory does not, or the database is not a file.
            ForbiddenError: the caller is not an admin.
            ServerUnreachableError: the server does not answer, or the connection was lost.
        """
        timeout = httpx.Timeout(self._target.timeout, read=BACKUP_SECONDS)
        with new_file(path) as partial:
            try:
                async with self._http.stream("GET", self._target.backup_url, timeout=timeout) as response:
                    if response.status_code != 200:
                        answer = await self._read(response)
                        raise error_of(response.status_code, response.headers, answer, {})
                    with create_private(partial) as file:
                        async for piece in response.aiter_bytes():
                            file.write(piece)
            except httpx.RequestError as error:
                raise unreachable(self.url, error) from error

    async def _follow(
        self, task_id: str, url: str, watching: Watching
    ) -> AsyncGenerator[dict[str, Json], None]:
        """Yield what a stream of the server sends, over several connections if necessary."""
        while not watching.is_over:
            fault: Exception | None = None
            try:
                async with aclosing(self._connected(task_id, url, watching)) as events:
                    async for event in events:
                        yield event
            except httpx.RequestError as error:
                fault = unreachable(self.url, error)
            except (ServerError, ServerBusyError) as error:
                fault = error
            if not watching.is_over:
                await asyncio.sleep(watching.wait_after(fault, time.monotonic()))

    async def _connected(
        self, task_id: str, url: str, watching: Watching
    ) -> AsyncGenerator[dict[str, Json], None]:
        target = self._target
        timeout = httpx.Timeout(target.timeout, read=target.silence)
        headers = watching.headers
        async with self._http.stream("GET", url, headers=headers, timeout=timeout) as response:
            if response.status_code == 204:
                watching.note_nothing_follows()
                return
            if response.status_code != 200:
                raise error_of(
                    response.status_code, response.headers, await self._read(response), {"task_id": task_id}
                )
            response.stream = BoundedStream(response.stream, target.max_bytes)
            try:
                async for sent in EventSource(response).aiter_sse():
                    event = watching.take(sent)
                    if event is not None:
                        yield event
            except SSEError as error:
                raise ServerError(f"The server did not send an event stream: {error}.", 200) from error
        watching.note_end()

    async def _ask(self, name: str, params: Mapping[str, Json]) -> Json:
        return read_typed(name, await self.call(name, without_defaults(name, params)))

    async def _call(self, call: Call, patience: float | None) -> Json:
        within = self._target.patience if patience is None else check_seconds("patience", patience)
        return await AsyncRetrying(**rules_of(call, within))(self._once, call)

    async def _once(self, call: Call) -> Json:
        target, body = self._target, call.body()
        timeout = target.timeout_of(call.operation)
        headers = {"Content-Type": "application/json"}
        try:
            async with self._http.stream(
                "POST", target.rpc_url, content=body, headers=headers, timeout=timeout
            ) as response:
                answer = await self._read(response)
        except httpx.RequestError as error:
            raise unreachable(self.url, error) from error
        return read_answer(call, response.status_code, response.headers, answer)

    async def _read(self, response: httpx.Response) -> bytes:
        read = bytearray()
        async for piece in response.aiter_bytes():
            read += piece
            if len(read) > self._target.max_bytes:
                raise too_large(response.status_code, self._target.max_bytes)
        return bytes(read)
