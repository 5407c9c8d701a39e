"""Tools over MCP: `tools/list` and `tools/call`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol, cast

from apflow.core.model.task import Json
from apflow.server.http.api_error import ApiError, Code
from apflow.server.mcp.approvals import (
    Asking,
    AskingByRequest,
    AskingByResult,
    AskingNobody,
    decide,
    executed_of,
    open_for,
)
from apflow.server.mcp.calls import Calls, error_text
from apflow.server.mcp.exchange import INVALID_PARAMS, Exchange, ProtocolError
from apflow.server.mcp.paging import page_of
from apflow.server.mcp.profiles import RUN_PREFIX, Selection
from apflow.server.mcp.run_tasks import RunTasks
from apflow.server.mcp.runs import Runs
from apflow.server.mcp.tasks import EXTENSION
from apflow.server.mcp.tool_results import failure, result_of, structured
from apflow.server.mcp.tools import (
    RESULT,
    OperationTool,
    executor_tool_name,
    executor_tools,
    operation_tools,
)

PAGE: Final = 200  # tools
WEBHOOK: Final = "webhook_config"

CallsOf = Callable[[Exchange], Calls]


class ToolSource(Protocol):
    """Offers tools beside those of apflow."""

    def definitions(self) -> Sequence[dict[str, Json]]:
        """Return the tools as they are on the wire."""
        ...

    def call(self, exchange: Exchange, params: Mapping[str, Json]) -> Awaitable[dict[str, Json]]:
        """Call one of the tools, for parameters as on the wire, and return such a result."""
        ...


class Tools:
    """The tools that a server offers to its clients.

    Args:
        selection: which of apflow's tools there are.
        calls_of: returns what the sender of a request may call.
        more: other sources of tools.
        task_seconds: for how long a task of the protocol is kept.
    """

    def __init__(
        self,
        selection: Selection,
        calls_of: CallsOf,
        more: Sequence[ToolSource] = (),
        *,
        task_seconds: float,
    ) -> None:
        self._selection, self._calls_of, self._more = selection, calls_of, more
        self.runs = Runs()
        self.run_tasks = RunTasks(calls_of, self.runs, task_seconds)

    async def list(self, exchange: Exchange, params: Mapping[str, Json]) -> dict[str, Json]:
        """Return one page of the tools."""
        found = [tool.definition for name, tool in operation_tools().items() if self._selection.has(name)]
        if self._selection.has_executors:
            described = await self._calls_of(exchange).call("system.executors", {})
            tools = executor_tools(described)
            found += [tool for name, tool in tools.items() if self._selection.has(name)]
        for source in self._more:
            found += source.definitions()
        page, following = page_of(found, params.get("cursor"), PAGE)
        return {"tools": page} | ({"nextCursor": following} if following else {})

    async def call(self, exchange: Exchange, params: Mapping[str, Json]) -> dict[str, Json]:
        """Call a tool and return its result; a failure that the model can correct is a result, too."""
        name, arguments = params["name"], dict(params.get("arguments") or {})
        for source in self._more:
            if any(each["name"] == name for each in source.definitions()):
                return await source.call(exchange, params)
        if not self._selection.has(name):
            raise _unknown(name)
        try:
            if params.get("requestState") is not None:
                return await self._go_on(
                    exchange, name, str(params["requestState"]), params.get("inputResponses") or {}
                )
            tool = operation_tools().get(name)
            if tool is not None:
                return await self._call_operation(exchange, tool, arguments)
            return await self._run_executor(exchange, name, arguments)
        except ProtocolError:
            raise
        except Exception as error:  # noqa: BLE001 - the border: `error_text` logs what is unexpected
            return failure(error_text(error))

    def input_schema(self, name: str) -> Mapping[str, Json] | None:
        """Return the schema of the arguments of a tool of another source."""
        definitions = (each for source in self._more for each in source.definitions())
        return next((each["inputSchema"] for each in definitions if each["name"] == name), None)

    async def _call_operation(
        self, exchange: Exchange, tool: OperationTool, arguments: dict[str, Json]
    ) -> dict[str, Json]:
        operation, calls = tool.operation, self._calls_of(exchange)
        if operation.wait_parameter is None:
            result = await calls.call(operation.name, arguments)
            return structured({RESULT: result} if tool.is_wrapped else result)
        is_waiting = arguments.pop(operation.wait_parameter, False)
        if not isinstance(is_waiting, bool):
            return failure(f"{operation.wait_parameter}: must be true or false.")
        if not is_waiting:
            return structured(await calls.call(operation.name, arguments))
        return await self._run(exchange, calls, tool.definition["name"], arguments)

    async def _run_executor(self, exchange: Exchange, name: str, inputs: dict[str, Json]) -> dict[str, Json]:
        calls = self._calls_of(exchange)
        executor = await _executor_of(calls, name)
        if executor is None:
            raise _unknown(name)
        task = {"name": executor, "schemas": {"method": executor}, "inputs": inputs}
        return await self._run(exchange, calls, name, {"tasks": [task]})

    async def _run(
        self, exchange: Exchange, calls: Calls, tool: str, arguments: dict[str, Json]
    ) -> dict[str, Json]:
        """Run a tree and return the result, or a task for clients that can follow it.

        The secret of a webhook is in the result of the request only, which a task does not keep.
        """
        if EXTENSION in exchange.extensions and calls.has_store and WEBHOOK not in arguments:
            return await self.run_tasks.start(calls, tool, arguments)
        asking = _asking(exchange)
        executed, outcome = await self.runs.run(calls, arguments, exchange.report, asking)
        return _result(tool, executed, outcome, asking)

    async def _go_on(
        self, exchange: Exchange, tool: str, state: str, responses: Mapping[str, Json]
    ) -> dict[str, Json]:
        """Continue a call that has asked for approvals, with the responses of the client."""
        calls, asking, executed = self._calls_of(exchange), _asking(exchange), executed_of(state)
        root_id = executed["root_task_id"]
        await calls.call("tasks.get", {"task_id": root_id})  # which the caller must be able to see
        waiting = {str(each["task_id"]) for each in await open_for(calls, root_id)}
        for task_id, response in responses.items():
            if task_id in waiting and isinstance(response, dict):
                given = cast("dict[str, Json]", response)
                await decide(calls, task_id, given)
                if given.get("action") not in ("accept", "decline") and isinstance(asking, AskingByResult):
                    asking.dismiss(task_id)
        outcome = await self.runs.go_on(calls, executed, exchange.report, asking)
        return _result(tool, executed, outcome, asking)


def _asking(exchange: Exchange) -> Asking:
    """Return how the client of a request is asked for approvals."""
    if not exchange.can_elicit:
        return AskingNobody()
    return AskingByResult() if exchange.elicit is None else AskingByRequest(exchange.elicit)


def _result(
    tool: str, executed: Mapping[str, Json], outcome: dict[str, Json] | None, asking: Asking
) -> dict[str, Json]:
    if outcome is None and isinstance(asking, AskingByResult):
        return asking.result(executed)
    return result_of(tool, outcome or {})


async def _executor_of(calls: Calls, name: str) -> str | None:
    """Return the ID of the executor that a tool runs."""
    if not name.startswith(RUN_PREFIX):
        return None
    given = name.removeprefix(RUN_PREFIX)
    try:
        found = await calls.call("system.executor", {"executor_id": given})
    except ApiError as error:
        if error.code != Code.NOT_FOUND:
            raise
    else:
        return str(found["id"])
    described = cast("list[dict[str, Json]]", await calls.call("system.executors", {}))
    return next((each["id"] for each in described if executor_tool_name(each["id"]) == name), None)


def _unknown(name: str) -> ProtocolError:
    return ProtocolError(INVALID_PARAMS, f"Unknown tool: {name[:100]}")
