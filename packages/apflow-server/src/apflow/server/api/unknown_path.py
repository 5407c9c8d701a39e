"""What a request to a path that does not exist is answered, with a path that is spelled like it."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.requests import Request

from apflow.core.authoring.field_validation import near
from apflow.core.service.operations import OPERATIONS, unknown_operation
from apflow.server.api.openapi import PREFIX

MAX_SHOWN = 80  # characters of a path that is compared


def unknown_path(request: Request, app: FastAPI) -> str:
    """Return the message for a path that the application does not have."""
    path = request.url.path.removeprefix(request.scope.get("root_path", ""))
    if path.startswith(PREFIX):
        return unknown_operation(path.removeprefix(PREFIX))
    if path.removeprefix("/") in OPERATIONS:
        return f"Not Found. Send POST {PREFIX}{path.removeprefix('/')} for this operation."
    known = [str(getattr(route, "path", "")) for route in app.routes]
    advice = near(path[:MAX_SHOWN], [each for each in known if each])
    return f"Not Found.{advice}" if advice else "Not Found"
