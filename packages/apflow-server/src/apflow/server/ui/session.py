"""Sessions of the page: a token is exchanged for a cookie, and the page learns who its reader is."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from apflow.core.model.task import Json, to_json
from apflow.server.auth.authentication import TokenVerifier, bearer, caller_of, service_for
from apflow.server.auth.caller import Caller
from apflow.server.auth.session_cookie import (
    CookiePlace,
    cookie_place,
    csrf_of,
    end_session,
    session_token,
    set_session,
)
from apflow.server.http.api_error import UnauthorizedError
from apflow.server.http.response import JsonResponse

router = APIRouter(include_in_schema=False)


@router.get("/ui/session")
async def read(request: Request) -> Response:
    """Return who the reader of the page is: by a token in the header, by the cookie, or without either."""
    verifier: TokenVerifier | None = request.app.state.token_check
    token = bearer(request)
    is_session = token is None and verifier is not None
    if is_session:
        token = session_token(request, request.app.state.settings)
    caller = await caller_of(verifier, token)
    service_for(request, caller)  # notes the caller, and counts the request
    return _described(verifier, caller, csrf_of(token) if is_session and token else None)


@router.post("/ui/session")
async def begin(request: Request) -> Response:
    """Exchange the bearer token of the request for a session cookie.

    A cookie alone is not enough. Where the server asks for no tokens, there is nothing to exchange.
    """
    verifier: TokenVerifier | None = request.app.state.token_check
    if verifier is None:
        return _described(None, await caller_of(None, None), None)
    given = bearer(request)
    if given is None:
        raise UnauthorizedError
    token = verifier.session_token(given)
    caller = await verifier.caller(token)
    service_for(request, caller)
    response = _described(verifier, caller, csrf_of(token))
    set_session(response, _place(request), token, caller.until)
    return response


@router.delete("/ui/session")
async def end(request: Request) -> Response:
    """End the session of the cookie. A token that was exchanged stays valid until it expires."""
    verifier: TokenVerifier | None = request.app.state.token_check
    if verifier is not None:
        token = session_token(request, request.app.state.settings)
        if token is not None:
            verifier.forget(token)
    response = Response(status_code=204)
    end_session(response, _place(request))
    return response


def _place(request: Request) -> CookiePlace:
    return cookie_place(request, request.app.state.settings)


def _described(verifier: TokenVerifier | None, caller: Caller, csrf: str | None) -> Response:
    until = None if caller.until is None else datetime.fromtimestamp(caller.until, UTC)
    described: dict[str, Json] = {
        "required": verifier is not None,
        "csrf": csrf,
        "user": caller.user_id,
        "is_admin": caller.is_admin,
        "expires_at": to_json(until),
    }
    return JsonResponse(described)
