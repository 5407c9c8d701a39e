"""The client of a process that holds a database, at its Unix socket.

`apflow.core.service.local_protocol` describes the messages.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

from apflow.client.call import Call, call_of, read_answer
from apflow.client.outcome import outcome_of
from apflow.core.errors import HolderGoneError, StoreHeldError
from apflow.core.model.task import Json
from apflow.core.process.local_socket import is_own_peer
from apflow.core.process.server_file import API, ServerInfo
from apflow.core.service.local_protocol import ACCEPTED, BACKUP, EVENT, FOLLOW_LOGS, HELD
from apflow.core.service.local_server import read_line
from apflow.core.service.operations import OPERATIONS

GREETING_SECONDS = 20.0  # in which the process must accept a connection, however busy it is
LIMIT = 1 << 20  # bytes that are read at once


class LocalClient:
    """Calls operations of the process that holds a database. Each call has its own connection."""

    def __init__(self, holder: ServerInfo) -> None:
        self._holder = holder
        self.has_changed = False  # whether a call may have changed something, so that it is not repeated

    @property
    def url(self) -> str:
        """The name of the process in messages."""
        return f"process {self._holder.pid}"

    async def call(
        self,
        name: str,
        params: Mapping[str, Json] | None = None,
        *,
        patience: float | None = None,  # noqa: ARG002 - as other clients have it
    ) -> Json:
        """Call an operation by name and return its result as plain JSON.

        Raises:
            StoreHeldError: the process does not do this for other processes.
            HolderGoneError: the process has ended, or closed the database.
            ApflowError: the error of the operation.
        """
        call = call_of(name, params or {})
        try:
            async with self._sent(call.body()) as reader:
                answer = await self._line(reader)
        except HolderGoneError as error:
            self.has_changed |= error.was_sent and not call.is_repeatable
            raise
        result = self._result(call, answer)
        self.has_changed |= not call.operation.is_read_only
        return result

    async def events(self, task_id: str, after: int | None = None) -> AsyncGenerator[dict[str, Json], None]:
        """Yield the events of a task's tree until the final event, as plain JSON.

        Raises:
            HolderGoneError: the process has ended, or closed the database, before the final event.
            ApflowError: the error of the operation.
        """
        params: dict[str, Json] = {"task_id": task_id} | ({} if after is None else {"after": after})
        call = Call(OPERATIONS["tasks.watch"], params)
        async with aclosing(self._streamed(call, call.body())) as events:
            async for event in events:
                yield event

    async def log_lines(
        self, task_id: str, *, attempt: int | None = None, after: int = 0, level: str | None = None
    ) -> AsyncGenerator[dict[str, Json], None]:
        """Yield what a task and its descendants have logged, and then log until the run has ended.

        Raises:
            HolderGoneError: the process has ended, or closed the database, before the run has ended.
            ApflowError: the error of the operation.
        """
        params = {"task_id": task_id, "attempt": attempt, "after": after, "level": level}
        call = Call(
            OPERATIONS["tasks.logs"], {name: each for name, each in params.items() if each is not None}
        )
        request = json.loads(call.body()) | {"method": FOLLOW_LOGS}
        async with aclosing(self._streamed(call, json.dumps(request).encode())) as lines:
            async for line in lines:
                yield line

    async def backup(self, path: Path) -> None:
        """Have the process write a consistent copy of its database to a new file.

        Args:
            path: the file, as an absolute path.

        Raises:
            HolderGoneError: the process has ended, or closed the database.
            ApflowError: the error of the process.
        """
        call = Call(OPERATIONS["system.database"], {"path": str(path)})
        request = json.loads(call.body()) | {"method": BACKUP}
        async with self._sent(json.dumps(request).encode()) as reader:
            self._result(call, await self._line(reader))

    async def _streamed(self, call: Call, request: bytes) -> AsyncGenerator[dict[str, Json], None]:
        async with self._sent(request) as reader:
            while True:
                message = await self._line(reader)
                event = _event_in(message)
                if event is None:
                    self._result(call, message)
                    return
                yield event

    async def end_of(self, executed: Mapping[str, Json]) -> dict[str, Json]:
        """Follow a requested run until it has ended, and return its outcome.

        Args:
            executed: the result of `tasks.execute`.
        """
        root_id = executed["root_task_id"]
        async with aclosing(self.events(root_id)) as events:
            async for _ in events:
                pass
        [standing] = await self.call("tasks.running.status", {"task_ids": [root_id]})
        return outcome_of(executed, standing, await self.call("tasks.get", {"task_id": root_id}))

    def _result(self, call: Call, answer: bytes) -> Json:
        error: Any = _object(answer).get("error")
        if isinstance(error, dict) and cast("dict[str, Any]", error).get("code") == HELD:
            seconds = float(cast("dict[str, Any]", error)["data"]["seconds"])
            raise StoreHeldError(Path(self._holder.database), self._holder.pid, seconds)
        return read_answer(call, 200, {}, answer)

    @asynccontextmanager
    async def _sent(self, request: bytes) -> AsyncGenerator[asyncio.StreamReader]:
        """Send a request, and give what the answer is read from once the process has accepted the request."""
        try:
            async with asyncio.timeout(GREETING_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self._holder.socket, limit=LIMIT)
        except (OSError, TimeoutError) as error:
            raise HolderGoneError(self._holder.pid, was_sent=False) from error
        try:
            await self._check_greeting(reader, writer)
            with suppress(ConnectionError):  # the answer, or its absence, says more
                writer.write(request + b"\n")
                await writer.drain()
            if await _line_or_end(reader) != ACCEPTED:  # it ended before it read the request
                raise HolderGoneError(self._holder.pid, was_sent=False)
            yield reader
        finally:
            writer.transport.abort()  # not `close`, which waits for what is not sent: the loop may end first

    async def _check_greeting(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Check that the other process is of the same user, and accepts requests of this version."""
        greeting: bytes | None = None
        is_own = is_own_peer(writer.get_extra_info("socket"))  # first: a reset connection has no socket
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(GREETING_SECONDS):
                greeting = await read_line(reader)
        if not is_own or greeting is None or _object(greeting).get("apflow") != API:
            raise HolderGoneError(self._holder.pid, was_sent=False)

    async def _line(self, reader: asyncio.StreamReader) -> bytes:
        line = await _line_or_end(reader)
        if line is None:
            raise HolderGoneError(self._holder.pid, was_sent=True)
        return line


async def _line_or_end(reader: asyncio.StreamReader) -> bytes | None:
    """Return the next line; None where the process has ended or closed the connection."""
    with suppress(OSError):
        return await read_line(reader)
    return None


def _event_in(message: bytes) -> dict[str, Json] | None:
    """Return the event that a message contains; None if it is the answer to the request."""
    read = _object(message)
    return cast("dict[str, Json]", read["params"]) if read.get("method") == EVENT else None


def _object(line: bytes) -> dict[str, Any]:
    try:
        read: Any = json.loads(line)
    except ValueError:
        return {}
    return cast("dict[str, Any]", read) if isinstance(read, dict) else {}
