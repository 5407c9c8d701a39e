"""The application: everything that answers over HTTP, around one store.

It may be run by any ASGI server (`uvicorn app:app`). While it runs, so does a worker: it runs the trees
that are submitted to the store, and releases them cleanly at shutdown.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, cast

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from apflow.core import plugins
from apflow.core.errors import ApflowError, InvalidInputError
from apflow.core.events.telemetry import traced
from apflow.core.extensions.model_calls import observing_model_calls
from apflow.core.extensions.user_modules import import_modules
from apflow.core.settings import Settings, check_former_variables, get_settings, overridden_defaults
from apflow.core.store.base import TaskStore
from apflow.core.store.session import create_session
from apflow.server.a2a.routes import add_routes as add_a2a_routes
from apflow.server.a2a.routes import serving_grpc
from apflow.server.api import backup, docs, followed_calls, json_rpc, plain_http
from apflow.server.api.unknown_path import unknown_path
from apflow.server.drain import Drain
from apflow.server.duties import Duties
from apflow.server.http import health
from apflow.server.http.api_error import ApiError, Code, InvalidParametersError
from apflow.server.http.limits import Rate
from apflow.server.http.protection import Protection, has_auth, with_cors
from apflow.server.http.request_log import RequestLog
from apflow.server.http.response import error_response, handle_error
from apflow.server.mcp.endpoint import add_mcp
from apflow.server.observability import metrics
from apflow.server.startup_checks import check_settings
from apflow.server.streaming import event_stream, log_stream, websocket
from apflow.server.ui import files as page_files
from apflow.server.ui import routes as page_routes
from apflow.server.ui import session as page_session
from apflow.server.ui import tree_file as page_tree_file
from apflow.server.webhooks.delivery import Deliveries

if TYPE_CHECKING:
    from apflow.server.auth.token import TokenCheck

GROUP = "apflow.server"  # entry points: functions of the application that return a router


def create_app(settings: Settings | None = None, *, db: TaskStore | None = None) -> FastAPI:
    """Return the application. Nothing is opened or run before it starts.

    Args:
        settings: those of this process, if None.
        db: the store; the one that the settings name, if None. One that is given is not closed at the end.

    Raises:
        SettingsError: a setting of the server cannot be used.
        TypeError: a plugin of the server is not a function.
    """
    settings = settings or get_settings()
    check_former_variables()
    check_settings(settings)
    app = FastAPI(
        title="apflow",
        description="Runs trees of tasks.",
        version=plugins.version("apflow-server") or "0",
        lifespan=lifespan,
        docs_url=None,
        openapi_url=None,
        redoc_url=None,
        redirect_slashes=False,  # to wherever the Host header says
    )
    app.state.settings = settings
    app.state.given_db = db
    app.state.db = db or create_session(settings.database_url)
    app.state.db.needs_token = has_auth(settings)
    app.state.rate = Rate(settings)
    app.state.token_check = _token_check(settings) if has_auth(settings) else None
    app.state.drain = Drain()
    app.state.duties = None  # what it does beside answering, once it has started
    app.state.streams = event_stream.Streams()
    app.state.metrics = metrics.Metrics(app)
    app.state.page_folder = page_files.STATIC
    _add_routes(app)
    app.state.mcp = add_mcp(app, settings)
    _add_error_handlers(app)
    app.add_middleware(Protection, settings=settings, rate=app.state.rate)
    app.add_middleware(with_cors, settings=settings)
    app.add_middleware(RequestLog)
    return app


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Run what is submitted, while the application runs."""
    state = app.state
    settings: Settings = state.settings
    import_modules(settings.import_modules)
    if state.db.is_closed:
        state.db = create_session(settings.database_url)
    state.drain = Drain()
    state.deliveries = Deliveries(state.db, settings)
    with ExitStack() as stack:
        if has_auth(settings):  # callers from outside do not reach into the network of the server
            stack.enter_context(overridden_defaults(net_policy="public"))
        state.db.needs_token = has_auth(settings)
        await state.db.get(["any"])  # a store opens with its first operation
        stack.enter_context(observing_model_calls(state.metrics.models.take))
        async with traced(state.db, settings):
            state.duties = Duties(state.db, settings, state.drain, state.deliveries, [state.metrics.take])
            try:
                async with state.duties.done(), serving_grpc(app):
                    yield
            finally:
                state.duties = None
                await state.mcp.close()
        if state.token_check is not None:
            await state.token_check.close()
        if state.given_db is None:
            await state.db.close()


def _token_check(settings: Settings) -> TokenCheck:
    from apflow.server.auth.token import TokenCheck  # here: cryptography is slow to import

    return TokenCheck(settings)


def _add_routes(app: FastAPI) -> None:
    app.include_router(health.router)
    app.include_router(docs.router)
    app.include_router(json_rpc.router)
    app.include_router(plain_http.make_router())
    app.include_router(event_stream.router)
    app.include_router(followed_calls.router)
    app.include_router(log_stream.router)
    app.include_router(websocket.router)
    app.include_router(metrics.router)
    app.include_router(backup.router)
    if app.state.settings.ui:
        app.include_router(page_session.router)
        app.include_router(page_tree_file.router)
        app.include_router(page_routes.router)
    add_a2a_routes(app)
    for name in plugins.names(GROUP):
        factory = plugins.load(GROUP, name)
        if not callable(factory):
            raise TypeError(f"{name!r} ({GROUP}) must be a function that takes the application.")
        app.include_router(cast("APIRouter", factory(app)))


def _add_error_handlers(app: FastAPI) -> None:
    app.add_exception_handler(ApiError, handle_error)
    app.add_exception_handler(ApflowError, handle_error)
    app.add_exception_handler(HTTPException, _handle_http_exception)
    app.add_exception_handler(RequestValidationError, _handle_invalid_request)


async def _handle_http_exception(request: Request, error: Exception) -> Response:
    """Return the response for what Starlette refuses: an unknown path or method."""
    refusal = cast("HTTPException", error)
    if refusal.status_code == 404:
        said = unknown_path(request, request.app)
        return error_response(request, ApiError(404, Code.NOT_FOUND, said, headers=refusal.headers))
    code = Code.INVALID_REQUEST
    return error_response(
        request, ApiError(refusal.status_code, code, str(refusal.detail), headers=refusal.headers)
    )


async def _handle_invalid_request(request: Request, error: Exception) -> Response:
    violations = [
        f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}"
        for each in cast("RequestValidationError", error).errors()
    ]
    return error_response(
        request, InvalidParametersError(InvalidInputError("Invalid parameters.", violations))
    )
