"""Tasks and executors as resources: `tasks://ID`, `tasks://ID/tree` and `executors://ID`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol, cast
from urllib.parse import quote, unquote

from apflow.core.model.task import Json
from apflow.core.payload.json_value import dumps
from apflow.server.http.api_error import ApiError, Code
from apflow.server.http.response import as_json
from apflow.server.mcp.calls import Calls
from apflow.server.mcp.exchange import INTERNAL, INVALID_PARAMS, RESOURCE_NOT_FOUND, Exchange, ProtocolError

PAGE: Final = 100  # trees
JSON: Final = "application/json"
TASKS: Final = "tasks://"
EXECUTORS: Final = "executors://"
TREE: Final = "/tree"
TEMPLATES: Final[list[Json]] = [
    {
        "uriTemplate": "tasks://{task_id}",
        "name": "task",
        "description": "A task with its inputs, status, result and error.",
        "mimeType": JSON,
    },
    {
        "uriTemplate": "tasks://{task_id}/tree",
        "name": "tree",
        "description": "The tree of a task: the root with all descendants.",
        "mimeType": JSON,
    },
    {
        "uriTemplate": "executors://{executor_id}",
        "name": "executor",
        "description": "An executor with the JSON Schema of its inputs.",
        "mimeType": JSON,
    },
]


class ResourceSource(Protocol):
    """Offers resources beside those of apflow."""

    def definitions(self) -> Sequence[dict[str, Json]]:
        """Return the resources as they are on the wire."""
        ...

    def templates(self) -> Sequence[dict[str, Json]]:
        """Return the templates as they are on the wire."""
        ...

    def read(self, exchange: Exchange, uri: str) -> Awaitable[dict[str, Json] | None]:
        """Return the contents of a resource as on the wire; None if there is none of this URI."""
        ...


class Resources:
    """The resources that a server offers to its clients.

    Args:
        calls_of: returns what the sender of a request may call.
        more: other sources of resources.
    """

    def __init__(self, calls_of: Callable[[Exchange], Calls], more: Sequence[ResourceSource] = ()) -> None:
        self._calls_of, self._more = calls_of, more

    async def list(self, exchange: Exchange, params: Mapping[str, Json]) -> dict[str, Json]:
        """Return one page of the roots of the caller's trees, newest first."""
        cursor = params.get("cursor")
        given: dict[str, Json] = {"limit": PAGE} | ({} if cursor is None else {"cursor": cursor})
        try:
            roots = cast("list[dict[str, Json]]", await self._calls_of(exchange).call("tasks.list", given))
        except ApiError as error:
            raise protocol_error(error) from error
        found = [resource_of(each) for each in roots]
        if cursor is None:
            found = [each for source in self._more for each in source.definitions()] + found
        following = {"nextCursor": roots[-1]["id"]} if len(roots) == PAGE else {}
        return {"resources": found} | following

    async def list_templates(self, exchange: Exchange, params: Mapping[str, Json]) -> dict[str, Json]:  # noqa: ARG002
        """Return the templates of the URIs."""
        more = [each for source in self._more for each in source.templates()]
        return {"resourceTemplates": [*TEMPLATES, *more]}

    async def read(self, exchange: Exchange, params: Mapping[str, Json]) -> dict[str, Json]:
        """Return the contents of a resource."""
        uri = str(params["uri"])
        for source in self._more:
            contents = await source.read(exchange, uri)
            if contents is not None:
                return contents
        operation, given = operation_of(uri)
        try:
            found = await self._calls_of(exchange).call(operation, given)
        except ApiError as error:
            if error.code == Code.NOT_FOUND:
                raise not_found(uri) from error
            raise protocol_error(error) from error
        text = dumps(as_json(found)).decode()
        return {"contents": [{"uri": uri, "mimeType": JSON, "text": text}]}


def operation_of(uri: str) -> tuple[str, dict[str, Json]]:
    """Return the operation that reads a resource, and its parameters.

    Raises:
        ProtocolError: there is no resource with such a URI.
    """
    for scheme, parameter, operation in (
        (TASKS, "task_id", "tasks.get"),
        (EXECUTORS, "executor_id", "system.executor"),
    ):
        if uri.startswith(scheme) and len(uri) > len(scheme):
            name = uri.removeprefix(scheme)
            if scheme == TASKS and name.endswith(TREE):
                name, operation = name.removesuffix(TREE), "tasks.tree"
            return operation, {parameter: unquote(name)}
    raise not_found(uri)


def resource_of(root: Mapping[str, Json]) -> dict[str, Json]:
    """Return the root of a tree as a resource."""
    return {
        "uri": f"{TASKS}{quote(root['id'], safe='')}",
        "name": root["name"] or root["id"],
        "description": f"{root['status']}, created {str(root['created_at'])[:19]}",
        "mimeType": JSON,
    }


def protocol_error(error: ApiError) -> ProtocolError:
    """Return an error of an operation as one of the protocol."""
    code = INTERNAL if error.code == Code.INTERNAL else INVALID_PARAMS
    return ProtocolError(code, error.message, error.data)


def not_found(uri: str) -> ProtocolError:
    """Return the error that there is no such resource, or that the caller may not see it."""
    return ProtocolError(RESOURCE_NOT_FOUND, "Resource not found.", {"uri": uri})
