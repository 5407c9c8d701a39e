"""The MCP SDK, in its versions 1.30 and 2: the only module that imports it.

Handlers take parameters and return results as they are on the wire, so that only this module knows the
classes of the SDK, whose names and registration differ between the two versions.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from typing import Any, Final, cast

import anyio
import mcp.server.streamable_http
import mcp.shared.exceptions
import mcp.types
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from pydantic import AnyUrl, BaseModel
from starlette.types import Receive, Scope, Send

from apflow.core.model.task import Json
from apflow.server.http.api_error import api_error_of
from apflow.server.mcp.events import Bounds
from apflow.server.mcp.exchange import (
    HEADER_MISMATCH,
    INTERNAL,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    Elicit,
    Exchange,
    Handler,
    ProtocolError,
    Report,
)
from apflow.server.mcp.handlers import INSTRUCTIONS, NAME, Handlers, version
from apflow.server.mcp.tasks import EXTENSION
from apflow.server.mcp.updates import Subscriber, Updates

types: Any = mcp.types
exceptions: Any = mcp.shared.exceptions
IS_SECOND: Final = hasattr(Server, "add_request_handler")  # version 2

# Versions of the protocol that version 1 of the SDK speaks. Empty for version 2: it refuses others itself.
VERSIONS: Final[tuple[str, ...]] = (
    () if IS_SECOND else tuple(import_module("mcp.shared.version").SUPPORTED_PROTOCOL_VERSIONS)
)
SDK_ERROR: type[Exception] = exceptions.MCPError if IS_SECOND else exceptions.McpError
NEEDS_INPUT: Final = "input_required"  # the `resultType` of a result that asks the client for more
IS_TASK: Final = "task"  # the `resultType` of a task instead of the result
CAPABILITIES: Final = "io.modelcontextprotocol/clientCapabilities"  # the key in `_meta`
NAME_HEADER: Final = "mcp-name"
# What `subscriptions/listen` can subscribe to. The lists never change, so that nothing follows for them.
SUBSCRIBABLE: Final = (
    "toolsListChanged", "promptsListChanged", "resourcesListChanged", "resourceSubscriptions", "taskIds",
)  # fmt: skip

# The names of the classes in `mcp.types`: of the request, of its parameters, and of its result.
CLASSES: Final[Mapping[str, tuple[str, str, str]]] = {
    "tools/list": ("ListToolsRequest", "PaginatedRequestParams", "ListToolsResult"),
    "tools/call": ("CallToolRequest", "CallToolRequestParams", "CallToolResult"),
    "resources/list": ("ListResourcesRequest", "PaginatedRequestParams", "ListResourcesResult"),
    "resources/templates/list": (
        "ListResourceTemplatesRequest",
        "PaginatedRequestParams",
        "ListResourceTemplatesResult",
    ),
    "resources/read": ("ReadResourceRequest", "ReadResourceRequestParams", "ReadResourceResult"),
    "resources/subscribe": ("SubscribeRequest", "SubscribeRequestParams", "EmptyResult"),
    "resources/unsubscribe": ("UnsubscribeRequest", "UnsubscribeRequestParams", "EmptyResult"),
    "prompts/list": ("ListPromptsRequest", "PaginatedRequestParams", "ListPromptsResult"),
    "prompts/get": ("GetPromptRequest", "GetPromptRequestParams", "GetPromptResult"),
    "completion/complete": ("CompleteRequest", "CompleteRequestParams", "CompleteResult"),
    "logging/setLevel": ("SetLevelRequest", "SetLevelRequestParams", "EmptyResult"),
}


class HttpServer:
    """A server over streamable HTTP.

    Args:
        has_sessions: keep a session for each client of a protocol before 2026-07-28. Without, cancellation
            by such clients has no effect.
        max_bytes: the largest request.
    """

    versions = VERSIONS

    def __init__(self, handlers: Handlers, *, has_sessions: bool, max_bytes: int) -> None:
        self._handlers = handlers
        self._manager = _SessionManager(
            make_server(handlers, has_sessions=has_sessions),
            stateless=not has_sessions,
            max_request_body_size=max_bytes,
        )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Serve while the context lasts. It can be entered once."""
        async with self._manager.run():
            yield
        await self._handlers.close()

    async def handle(self, scope: Scope, receive: Receive, send: Send, user_id: str | None) -> None:
        """Answer one HTTP request. Sessions are for the user that has opened them."""
        if user_id is not None:
            identity = AccessToken.model_validate({"token": "-", "client_id": user_id, "scopes": []})
            scope = {**scope, "user": AuthenticatedUser(identity)}
        await self._manager.handle_request(scope, receive, send)


class _SessionManager(StreamableHTTPSessionManager):
    """Makes sessions whose clients get what they have missed when they connect again (`Last-Event-ID`).

    The SDK would have all sessions share one store of events, in which the ID of one finds those of another.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._events = Bounds(_event_message, _is_response)
        super().__init__(*args, **options)

    @property
    def event_store(self) -> Any:
        """The store for the session that is being made; see `Bounds`."""
        return self._events.new_session()

    @event_store.setter
    def event_store(self, _: object) -> None:
        """Ignore the one that the SDK sets."""


def _event_message(message: Any, event_id: str) -> Any:
    streamable_http: Any = mcp.server.streamable_http
    return streamable_http.EventMessage(message, event_id)


def _is_response(message: Any) -> bool:
    found = getattr(message, "root", message)
    return hasattr(found, "result") or hasattr(found, "error")


async def serve_stdio(handlers: Handlers, stdin: object, stdout: object) -> None:
    """Serve one client until the end of its input.

    Args:
        stdin: an asynchronous iterator over the lines.
        stdout: has the coroutines `write(str)` and `flush()`.
    """
    server = make_server(handlers)
    given: Any = {"stdin": stdin, "stdout": stdout}
    async with stdio_server(**given) as (read, write):
        await server.run(read, write, server.create_initialization_options())
    await handlers.close()


def make_server(handlers: Handlers, *, has_sessions: bool = True) -> Any:
    """Return a server of the SDK with these handlers."""
    by_method = (_subscriptions(handlers.updates) if has_sessions else {}) | dict(handlers.by_method)
    server = _second_server(handlers, by_method) if IS_SECOND else _first_server(by_method)
    _declare_capabilities(server, has_sessions=has_sessions)
    return server


def _first_server(by_method: Mapping[str, Handler]) -> Any:
    """Return a server of version 1 of the SDK."""
    server: Any = Server(NAME, version=version(), instructions=INSTRUCTIONS)
    for method, handler in by_method.items():
        request, _, result = CLASSES[method]
        adapted = _first(server, handler, getattr(types, result))
        server.request_handlers[getattr(types, request)] = adapted
    return server


def _second_server(handlers: Handlers, by_method: Mapping[str, Handler]) -> Any:
    """Return a server of version 2 of the SDK."""
    make: Any = Server
    server = make(
        NAME,
        version=version(),
        instructions=INSTRUCTIONS,
        get_tool_input_schema=handlers.tools.input_schema,
    )
    for method, handler in by_method.items():
        _, params, result = CLASSES[method]
        server.add_request_handler(method, getattr(types, params), _second(handler, getattr(types, result)))
    listen = _second(_listening(handlers), None)
    server.add_request_handler("subscriptions/listen", types.SubscriptionsListenRequestParams, listen)
    for method, handler in handlers.tasks.by_method.items():
        server.add_request_handler(method, _task_params(), _of_extension(handler))
    server.extensions = {EXTENSION: {}}
    return server


def _subscriptions(updates: Updates) -> dict[str, Handler]:
    """Return the handlers of subscriptions of sessions."""

    async def subscribe(exchange: Exchange, params: Mapping[str, Json]) -> dict[str, Json]:
        return await updates.subscribe(exchange, params, _subscriber(exchange.context))

    async def unsubscribe(exchange: Exchange, params: Mapping[str, Json]) -> dict[str, Json]:
        return await updates.unsubscribe(exchange, params, _subscriber(exchange.context))

    return {"resources/subscribe": subscribe, "resources/unsubscribe": unsubscribe}


def _subscriber(context: Any) -> Subscriber:
    if IS_SECOND:
        return _SecondSubscriber(context.session._connection)  # noqa: SLF001 - there is no other way to it
    return _FirstSubscriber(context.session)


class _FirstSubscriber:
    """A session of version 1, which is not kept alive: nothing reports its end but its removal."""

    def __init__(self, session: Any) -> None:
        self._session = weakref.ref(session)
        self.key: object = id(session)

    async def notify(self, uri: str) -> None:
        session = self._session()
        if session is not None:
            with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                await session.send_resource_updated(AnyUrl(uri))

    def when_closed(self, callback: Callable[[], object]) -> None:
        weakref.finalize(self._session(), callback)


class _SecondSubscriber:
    """A session of version 2."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.key: object = id(connection)

    async def notify(self, uri: str) -> None:
        await self._connection.notify("notifications/resources/updated", {"uri": uri})

    def when_closed(self, callback: Callable[[], object]) -> None:
        self._connection.exit_stack.callback(callback)


class _Notification(BaseModel):
    """A notification as it is on the wire."""

    method: str
    params: dict[str, Any]


def _listening(handlers: Handlers) -> Handler:
    """Return the handler of `subscriptions/listen`, by which clients since 2026-07-28 subscribe.

    That of the SDK cannot agree to tasks. The stream lasts until the client or the server closes it.
    """
    from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY

    async def listen(exchange: Exchange, params: Mapping[str, Json]) -> dict[str, Json]:
        session, request_id = exchange.context.session, exchange.context.request_id
        is_acknowledged = asyncio.Event()

        async def send(method: str, content: Mapping[str, Json]) -> None:
            stamped = {**content, "_meta": {SUBSCRIPTION_ID_META_KEY: request_id}}
            await session.send_notification(_Notification(method=method, params=stamped), request_id)

        async def on_resource(uri: str) -> None:
            await is_acknowledged.wait()
            await send("notifications/resources/updated", {"uri": uri})

        async def on_task(state: Mapping[str, Json]) -> None:
            await is_acknowledged.wait()
            await send("notifications/tasks", state)

        wanted = params["notifications"]
        uris, task_ids = (_strings(wanted, name) for name in ("resourceSubscriptions", "taskIds"))
        async with (
            handlers.updates.watching(exchange, uris, on_resource),
            handlers.tasks.watching(exchange, task_ids, on_task) as followed,
        ):
            agreed = {**wanted, "taskIds": followed}
            honored = {name: agreed[name] for name in SUBSCRIBABLE if agreed.get(name)}
            await send("notifications/subscriptions/acknowledged", {"notifications": honored})
            is_acknowledged.set()
            await asyncio.Event().wait()
        raise AssertionError("unreachable")

    return listen


def _strings(given: Mapping[str, Json], name: str) -> list[str]:
    found: Json = given.get(name) or []
    if not (isinstance(found, list) and all(isinstance(each, str) for each in cast("list[Json]", found))):
        raise ProtocolError(INVALID_PARAMS, f"notifications.{name} must be a list of strings.")
    return cast("list[str]", found)


def _declare_capabilities(server: Any, *, has_sessions: bool) -> None:
    """Have a server declare what it does: that lists do not change, and that resources can be subscribed to.

    Version 1 of the SDK always denies the latter; version 2 always claims the former since 2026-07-28.
    """
    capabilities_of = server.get_capabilities

    def get_capabilities(*args: Any, **kwargs: Any) -> Any:
        found = capabilities_of(*args, **kwargs)
        is_modern = kwargs.get("protocol_version") is not None
        for each in (found.tools, found.prompts, found.resources):
            setattr(each, "list_changed" if IS_SECOND else "listChanged", False)
        found.resources.subscribe = has_sessions or is_modern
        if IS_SECOND and not is_modern:  # earlier protocols have no extensions
            found.extensions = None
        return found

    server.get_capabilities = get_capabilities


def _first(server: Any, handler: Handler, result_class: Any) -> Callable[[Any], Any]:
    """Adapt a handler to version 1 of the SDK."""

    async def handle(request: Any) -> Any:
        context = server.request_context
        params = _plain(request.params)
        session, request_id = context.session, str(context.request_id)

        async def report(progress: float, total: float | None, message: str | None) -> None:
            token = params["_meta"]["progressToken"]
            await session.send_progress_notification(token, progress, total, message, request_id)

        return types.ServerResult(await _call(handler, context, params, report, result_class))

    return handle


def _second(handler: Handler, result_class: Any) -> Callable[[Any, Any], Any]:
    """Adapt a handler to version 2 of the SDK."""

    async def handle(context: Any, params: Any) -> Any:
        report = context.session.report_progress
        return await _call(handler, context, _plain(params), report, result_class)

    return handle


def _of_extension(handler: Handler) -> Callable[[Any, Any], Any]:
    """Adapt the handler of a method that the protocol has since 2026-07-28, by an extension."""
    handle_modern = _second(handler, None)

    async def handle(context: Any, params: Any) -> Any:
        if not _is_modern(context):
            raise _sdk_error(ProtocolError(METHOD_NOT_FOUND, "Method not found", context.method))
        if context.request is not None:
            _check_name(context.request.headers.get(NAME_HEADER), params.task_id)
        return await handle_modern(context, params)

    return handle


def _check_name(given: str | None, name: str) -> None:
    """Check the header by which proxies route a request, as the SDK does for methods that it knows."""
    from mcp.shared.inbound import decode_header_value

    if decode_header_value(given) != name:
        message = f"{NAME_HEADER} header does not match the request body's 'taskId' parameter"
        raise _sdk_error(ProtocolError(HEADER_MISMATCH, message))


def _task_params() -> Any:
    """Return the class of the parameters of the methods of tasks."""

    class TaskParams(types.RequestParams):  # type: ignore[misc]
        task_id: str
        input_responses: dict[str, Any] | None = None

    return TaskParams


def _is_modern(context: Any) -> bool:
    """Return whether a request is of the protocol of 2026-07-28 or later."""
    if not IS_SECOND:
        return False
    from mcp.types.version import MODERN_PROTOCOL_VERSIONS

    return context.protocol_version in MODERN_PROTOCOL_VERSIONS


def _extensions_of(context: Any, params: Mapping[str, Any] | None) -> frozenset[str]:
    """Return the extensions that the client declares with a request."""
    if not _is_modern(context):
        return frozenset()
    extensions: dict[str, Any] = _capabilities(params).get("extensions") or {}
    return frozenset(extensions)


def _capabilities(params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a client of the protocol since 2026-07-28 declares with a request."""
    meta: dict[str, Any] = (params or {}).get("_meta") or {}
    return meta.get(CAPABILITIES) or {}


def _can_elicit(context: Any, params: Mapping[str, Any] | None) -> bool:
    """Return whether the client declares that it asks its user by forms."""
    if _is_modern(context):
        declared = _capabilities(params).get("elicitation")
    else:
        client = context.session.client_params
        found = None if client is None else client.capabilities.elicitation
        declared = None if found is None else found.model_dump(exclude_none=True)
    return declared is not None and (not declared or "form" in declared)  # {} is the form before 2025-11-25


def _elicit(context: Any) -> Elicit:
    """Return what asks the user of a client within a request."""
    session = context.session
    ask = session.elicit_form if hasattr(session, "elicit_form") else session.elicit

    async def elicit(params: Mapping[str, Json]) -> dict[str, Json]:
        return _plain(await ask(params["message"], params["requestedSchema"], context.request_id))

    return elicit


async def _call(
    handler: Handler, context: Any, params: dict[str, Json], report: Report, result_class: Any
) -> Any:
    meta = cast("dict[str, Json]", params.get("_meta") or {})
    wants_progress = meta.get("progressToken") is not None
    can_elicit = _can_elicit(context, params)
    exchange = Exchange(
        context.request,
        report if wants_progress else None,
        context,
        _extensions_of(context, params),
        can_elicit,
        _elicit(context) if can_elicit and not _is_modern(context) else None,
    )
    try:
        result = await handler(exchange, params)
    except ProtocolError as error:
        raise _sdk_error(error) from error
    except SDK_ERROR:
        raise
    except Exception as error:
        failed = api_error_of(error)  # which logs what is unexpected
        raise _sdk_error(ProtocolError(INTERNAL, failed.message)) from error
    if result_class is None or result.get("resultType") == IS_TASK:
        return dict(result)
    if result.get("resultType") == NEEDS_INPUT:
        result_class = types.InputRequiredResult
    return result_class.model_validate(result)


def _plain(params: Any) -> dict[str, Json]:
    if params is None:
        return {}
    plain: dict[str, Json] = params.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return plain


def _sdk_error(error: ProtocolError) -> Exception:
    if IS_SECOND:
        return SDK_ERROR(error.code, error.message, error.data)
    return SDK_ERROR(types.ErrorData(code=error.code, message=error.message, data=error.data))
