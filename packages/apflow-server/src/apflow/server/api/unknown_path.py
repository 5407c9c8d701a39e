"""What a request to a path that does not exist is answered, with a path that is spelled like it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fastapi import FastAPI
from starlette.requests import Request

from apflow.core.authoring.violation import near
from apflow.core.service.operations import OPERATIONS, unknown_operation
from apflow.server.api.openapi import PREFIX
from apflow.server.http.response import path_of

MAX_SHOWN = 80  # characters of a path that is compared


def unknown_path(request: Request, app: FastAPI) -> str:
    """Return the message for a path that the application does not have."""
    path = path_of(request)
    if path.startswith(PREFIX):
        return unknown_operation(path.removeprefix(PREFIX))
    if path.removeprefix("/") in OPERATIONS:
        return f"Not Found. Send POST {PREFIX}{path.removeprefix('/')} for this operation."
    advice = near(path[:MAX_SHOWN], list(_paths(app.routes)))
    return f"Not Found.{advice}" if advice else "Not Found"


def _paths(routes: Iterable[object]) -> Iterator[str]:
    """Yield the paths of routes. FastAPI 0.165 keeps an included router as one route."""
    for route in routes:
        path = getattr(route, "path", "")
        if isinstance(path, str) and path:
            yield path
        yield from _paths(getattr(getattr(route, "original_router", None), "routes", ()))
