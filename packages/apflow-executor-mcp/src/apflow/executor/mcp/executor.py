"""The executor that uses MCP servers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, cast

from apflow.core.capture.task_log import output_log
from apflow.core.errors import ApflowError, SecretHostRefusedError
from apflow.core.extensions.executor import BaseTask, InputsSchema
from apflow.core.permissions.origin import check_host, current_origin
from apflow.core.process.late_import import import_late
from apflow.core.settings import settings_now
from apflow.executor.mcp.errors import McpTimeoutError
from apflow.executor.mcp.link import Link, Listener
from apflow.executor.mcp.request import HttpTarget, McpRequest, read_request
from apflow.executor.mcp.schema import SCHEMA

if TYPE_CHECKING:
    from apflow.executor.mcp.pool import Connections
    from apflow.executor.mcp.resumption import Resumption
    from apflow.executor.mcp.sampling import Sampler
    from apflow.executor.mcp.sdk import Session
    from apflow.executor.mcp.task_handle import RemoteTask

CANCEL_SECONDS: Final = 3.0  # to connect to a lost server and cancel its task

T = TypeVar("T")

LEVELS = {
    "debug": "DEBUG",
    "notice": "INFO",
    "warning": "WARNING",
    "error": "ERROR",
    "critical": "CRITICAL",
    "alert": "CRITICAL",
    "emergency": "CRITICAL",
}


class McpExecutor(BaseTask):
    """Performs one operation on an MCP server."""

    id = "mcp_executor"
    name = "MCP"
    description = "Calls a tool of an MCP server, or lists and reads its tools, resources and prompts."
    inputs_schema: ClassVar[InputsSchema] = SCHEMA
    uses_net_policy = True  # and a program gets no secret that is granted for certain hosts
    _fraction = 0.0  # of the work, as the server has reported it
    _link: Link | None = None
    _resumption: Resumption | None = None

    async def execute(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Perform the operation on a connection that the tasks of the tree share.

        Raises:
            McpInputError: the inputs describe no operation; nothing was started or connected to.
            CommandRefusedError, CommandStartError: the program of the server may not, or cannot, be started.
            McpConnectError, McpHttpError: no session was established.
            McpToolError, McpRequestError: the server refuses the operation, or the tool failed.
            McpLostError, McpProtocolError, McpTooLargeError: the server ended or misbehaved.
            McpTimeoutError: it took too long.
            AddressRefusedError, HostNotFoundError: see `apflow.core.net.connect`.
        """
        request = read_request(inputs)
        sampler = self._sampler()
        connections = await _connections()  # importing the library does not count toward the timeout
        limit = asyncio.timeout(request.timeout)
        try:
            async with limit:
                result = await self._complete(request, connections, sampler)
        except TimeoutError as error:
            if not limit.expired():
                raise
            where, note = request.target.shown, self._note()
            raise McpTimeoutError(where, request.operation, request.timeout, note) from error
        return {
            "success": True,
            "operation": request.operation,
            "transport": request.transport,
            "result": result,
        }

    def _sampler(self) -> Sampler | None:
        """Return what answers servers that ask for a language model, if the settings permit that."""
        model = settings_now("mcp_sampling_model").mcp_sampling_model
        if not model:
            return None
        from apflow.executor.mcp.sampling import Sampler

        return Sampler(model, self)

    async def _complete(
        self, request: McpRequest, connections: Connections, sampler: Sampler | None
    ) -> dict[str, Any]:
        """Perform the operation. A task of the server outlasts connections: it is followed over new ones."""
        from apflow.executor.mcp.operations import abandon, perform
        from apflow.executor.mcp.resumption import Resumption

        use = partial(self._use, request, connections, sampler)
        resumption = self._resumption = Resumption(isinstance(request.target, HttpTarget))
        task = resumption.task
        if resumption.outlasts_connections:
            await self._keep(task, request.target.shown)
        try:
            while True:
                try:
                    return await use(lambda each: perform(each, request, self._on_progress, task, sampler))
                except ApflowError as error:
                    delay = resumption.delay_after(error)
                    self.log(f"{error} It is connected to again in {delay:g} s.", level="WARNING")
                await asyncio.sleep(delay)
        except asyncio.CancelledError:
            # The connection was lost before the server was asked to cancel its task.
            if resumption.outlasts_connections and task.is_running and not task.is_continued():
                with suppress(ApflowError, TimeoutError):
                    async with asyncio.timeout(CANCEL_SECONDS):
                        await use(lambda each: abandon(each, request, task))
            raise

    async def _keep(self, task: RemoteTask, where: str) -> None:
        """Resume the task of the server that an interrupted attempt has begun, and save one that begins."""
        from apflow.executor.mcp.task_handle import Handle

        async def save(handle: Handle) -> None:
            await self.save_state(
                {"server": where, "task": dict(handle.state), "is_modern": handle.is_modern}
            )

        task.on_handle, task.is_continued = save, lambda: self.is_continued
        saved = cast("dict[str, Any] | None", await self.saved_state())
        if saved is not None and saved["server"] == where:
            task.handle, task.is_restored = Handle(saved["task"], saved["is_modern"]), True

    async def _use(
        self,
        request: McpRequest,
        connections: Connections,
        sampler: Sampler | None,
        send: Callable[[Session], Awaitable[T]],
    ) -> T:
        """Return what `send` returns, which is given a session with the server."""
        target = request.target
        if isinstance(target, HttpTarget):
            check_host(target.host, target.port)  # a kept connection resolves nothing
        else:
            _refuse_bound_secrets()
        # A server does not say for which request it needs a model: the connection is the task's alone then.
        key = (self.root_task_id, self.user_id, target, sampler)
        listener = Listener(self._log, output_log("stderr"))
        async with connections.use(key, target, listener, sampler) as used:
            self._link = used.link
            return await used.call(send)

    def _note(self) -> str:
        """Return what may explain why no response came; else an empty string."""
        note = self._link.note if self._link is not None else ""
        lost = self._resumption.lost if self._resumption is not None else None
        return note or ("" if lost is None else f"The connection was lost before: {lost}")

    async def _on_progress(self, progress: float, total: float | None, message: str | None) -> None:
        """Report the progress of the server. Without a total, only its message."""
        if total is not None and total > 0:
            self._fraction = min(1.0, max(0.0, progress / total))
        await self.report_progress(self._fraction, message)

    def _log(self, message: str, level: str) -> None:
        self.log(message, level=LEVELS.get(level, "INFO"))


async def _connections() -> Connections:
    """Return the connections of the running loop. The library takes half a second to import: in a thread."""
    await asyncio.to_thread(import_late, "apflow.executor.mcp.pool")
    from apflow.executor.mcp.pool import connections

    return await connections()


def _refuse_bound_secrets() -> None:
    """Refuse secrets that are granted for certain hosts: a program may send them anywhere."""
    origin = current_origin()
    for name, permission in () if origin is None else origin.permissions.items():
        if permission.hosts is not None:
            raise SecretHostRefusedError(name, "this machine (a program)", permission.hosts)
