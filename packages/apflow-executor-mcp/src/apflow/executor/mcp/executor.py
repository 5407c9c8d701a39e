"""The executor that uses MCP servers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

from apflow.core.capture.task_log import output_log
from apflow.core.errors import SecretHostRefusedError
from apflow.core.extensions.executor import BaseTask, InputsSchema
from apflow.core.permissions.origin import check_host, current_origin
from apflow.core.process.late_import import import_late
from apflow.core.settings import settings_now
from apflow.executor.mcp.errors import McpSessionEndedError, McpTimeoutError
from apflow.executor.mcp.link import Link, Listener
from apflow.executor.mcp.request import HttpTarget, McpRequest, read_request
from apflow.executor.mcp.schema import SCHEMA

if TYPE_CHECKING:
    from apflow.executor.mcp.pool import Connections
    from apflow.executor.mcp.sampling import Sampler

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
                try:
                    result = await self._perform(request, connections, sampler)
                except McpSessionEndedError:  # it did not act on the request
                    result = await self._perform(request, connections, sampler)
        except TimeoutError as error:
            if not limit.expired():
                raise
            where, note = request.target.shown, self._link.note if self._link is not None else ""
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

    async def _perform(
        self, request: McpRequest, connections: Connections, sampler: Sampler | None
    ) -> dict[str, Any]:
        from apflow.executor.mcp.operations import perform

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
            return await used.call(lambda session: perform(session, request, self._on_progress, sampler))

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
