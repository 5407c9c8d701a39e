"""The operations, as requests of the protocol."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final, cast

from apflow.core.errors import InvalidInputError
from apflow.core.payload.json_value import dumps
from apflow.executor.mcp.errors import (
    METHOD_NOT_FOUND,
    McpInputRequiredError,
    McpProtocolError,
    McpRequestError,
    McpTooLargeError,
    McpToolError,
)
from apflow.executor.mcp.request import McpRequest
from apflow.executor.mcp.sampling import METHOD as SAMPLING
from apflow.executor.mcp.sampling import Sampler, SamplingRefusedError
from apflow.executor.mcp.sdk import OnProgress, RpcError, Session, is_closed, rpc_error
from apflow.executor.mcp.task_handle import RemoteTask, TaskFailedError, cancel, follow, handle_in

logger = logging.getLogger(__name__)

PARSE_ERROR: Final = -32700
INVALID_PARAMS: Final = -32602  # also for a task that the server does not know
MAX_PAGES: Final = 10_000
MAX_ROUNDS: Final = 10  # in which a server asks for something in the middle of one request
SHOWN_TEXT: Final = 4000  # characters of what a tool says about its error

Json = Any


async def perform(
    session: Session, request: McpRequest, on_progress: OnProgress, task: RemoteTask, sampler: Sampler | None
) -> dict[str, Json]:
    """Perform an operation; return the result of the protocol, of all pages for a list.

    Args:
        task: is filled in if the server runs the call as a separate task. If it is known already, from a
            connection that was lost, it is followed, and the tool is not called again.
        sampler: answers requests of the server for a language model; None: they are refused.

    Raises:
        McpToolError: the tool reports an error.
        McpRequestError: the server refuses a request.
        McpInputRequiredError: the server requires input.
        McpProtocolError: the result is not what the protocol says.
        McpTooLargeError: the result is too large.
    """
    calls = _Calls(session, request, sampler)
    match request.operation:
        case "call_tool":
            result = await calls.tool(on_progress, task)
            if result.get("isError") is True:
                raise McpToolError(request.name, _text_of(result))
        case "read_resource":
            result = await calls.send("resources/read", {"uri": request.name}, on_progress)
        case "get_prompt":
            params = {"name": request.name, "arguments": dict(request.arguments or {})}
            result = await calls.send("prompts/get", params, on_progress)
        case "list_tools":
            result = {"tools": await calls.pages("tools/list", "tools")}
        case "list_prompts":
            result = {"prompts": await calls.pages("prompts/list", "prompts")}
        case _:
            result = {"resources": await calls.pages("resources/list", "resources")}
            result["resourceTemplates"] = await calls.templates()
    calls.weigh(result)
    return result


async def abandon(session: Session, request: McpRequest, task: RemoteTask) -> None:
    """Ask the server to cancel a task that is followed no longer."""
    await cancel(task, _Calls(session, request, None).send)


class _Calls:
    """The requests of one operation."""

    def __init__(self, session: Session, request: McpRequest, sampler: Sampler | None) -> None:
        self._session, self._request, self._sampler = session, request, sampler
        self._where = request.target.shown

    async def send(
        self, method: str, params: Mapping[str, Json], on_progress: OnProgress | None = None
    ) -> dict[str, Json]:
        """Return the result of one request. What the server asks for meanwhile is answered, if it can be."""
        result = await self._send(method, params, on_progress)
        for _ in range(MAX_ROUNDS):
            if result.get("resultType") != "input_required":
                return result
            responses = await self._responses(method, result.get("inputRequests") or {})
            state = {name: result[name] for name in ("requestState",) if name in result}
            result = await self._send(method, {**params, "inputResponses": responses, **state}, on_progress)
        raise McpInputRequiredError(self._where, method)

    async def _send(
        self, method: str, params: Mapping[str, Json], on_progress: OnProgress | None
    ) -> dict[str, Json]:
        try:
            return await self._session.request(method, params, on_progress)
        except RpcError as error:
            if is_closed(error):
                raise
            code, message = rpc_error(error)
            if code == PARSE_ERROR:  # found by the library: it is a message of the server
                fault = f"a message cannot be read ({message.splitlines()[0]})"
                raise McpProtocolError(self._where, fault) from error
            raise McpRequestError(self._where, method, code, message) from error
        except ValueError as error:  # pydantic's ValidationError is one
            fault = f"the result of {method} is invalid ({str(error).splitlines()[0]})"
            raise McpProtocolError(self._where, fault) from error

    async def _responses(self, method: str, requests: Json) -> dict[str, Json]:
        """Return responses to what a server asks for in the middle of a request, by key."""
        if requests == {}:  # it only wants the request again
            return {}
        given, sampler = cast("dict[str, dict[str, Json]] | None", requests), self._sampler
        if given is None or sampler is None or any(each["method"] != SAMPLING for each in given.values()):
            raise McpInputRequiredError(self._where, method)
        try:
            return {key: await sampler.answer(each["params"]) for key, each in given.items()}
        except SamplingRefusedError as error:
            raise McpInputRequiredError(self._where, method, str(error)) from error

    async def tool(self, on_progress: OnProgress, task: RemoteTask) -> dict[str, Json]:
        """Return the result of a call of a tool, also of one that the server runs as a separate task."""
        handle = task.handle
        if handle is None:
            result = await self._call(on_progress)
            handle = handle_in(result)
            if handle is None:
                return result
        try:
            return await follow(
                task,
                handle,
                self.send,
                lambda message: on_progress(0.0, None, message),
                lambda requests: self._responses("tools/call", requests),
            )
        except McpRequestError as error:
            if not task.is_restored or error.code != INVALID_PARAMS:
                raise
            logger.warning("The tool is called again: %s", error)  # the server has lost its task
            task.handle, task.is_restored = None, False
            return await self.tool(on_progress, task)
        except TaskFailedError as error:
            if error.code is None:
                said = f"the server has cancelled its task: {error.message}"
                raise McpToolError(self._request.name, said) from error
            raise McpRequestError(self._where, "tools/call", error.code, error.message) from error

    async def _call(self, on_progress: OnProgress) -> dict[str, Json]:
        params: dict[str, Json] = {
            "name": self._request.name,
            "arguments": dict(self._request.arguments or {}),
        }
        try:
            return await self.send("tools/call", params, on_progress)
        except McpRequestError as error:
            if error.code != METHOD_NOT_FOUND:
                raise
            # So a server refuses to call a tool that it only runs as a task.
            return await self.send("tools/call", {**params, "task": {}}, on_progress)

    async def pages(self, method: str, name: str) -> list[Json]:
        """Return the entries of a list, of all pages."""
        entries: list[Json] = []
        cursor: str | None = None
        seen: set[str] = set()
        size = 0
        for _ in range(MAX_PAGES):
            page = await self.send(method, {} if cursor is None else {"cursor": cursor})
            found = page.get(name)
            if not isinstance(found, list):
                raise McpProtocolError(self._where, f"the result of {method} has no list {name!r}")
            size += self.weigh(page, size)
            entries += cast("list[Json]", found)
            cursor = page.get("nextCursor")
            if not cursor:
                return entries
            if cursor in seen:
                raise McpProtocolError(self._where, f"{method} returns the cursor {cursor!r} again")
            seen.add(cursor)
        raise McpProtocolError(self._where, f"{method} has more than {MAX_PAGES} pages")

    async def templates(self) -> list[Json]:
        """Return the templates of resources, which a server does not have to offer."""
        try:
            return await self.pages("resources/templates/list", "resourceTemplates")
        except McpRequestError as error:
            if error.code == METHOD_NOT_FOUND:
                return []
            raise

    def weigh(self, value: Json, before: int = 0) -> int:
        """Return the size of a value as JSON; raise `McpTooLargeError` if it is too large."""
        limit = self._request.max_output_bytes
        try:
            size = len(dumps(value))
        except InvalidInputError as error:
            raise McpProtocolError(
                self._where, f"a result is not JSON that can be stored ({error})"
            ) from error
        if before + size > limit:
            advice = "Raise `max_output_bytes`, or ask for less."
            raise McpTooLargeError(self._where, "a result", limit, advice)
        return size


def _text_of(result: Mapping[str, Json]) -> str:
    """Return what a tool says about its error."""
    content = result.get("content")
    blocks = cast("list[Json]", content) if isinstance(content, list) else []
    found = [cast("dict[str, Json]", each) for each in blocks if isinstance(each, dict)]
    texts = [str(each["text"]) for each in found if "text" in each]
    return "\n".join(texts)[:SHOWN_TEXT]
