"""Identifies the caller by the bearer token of a connection, and determines its permissions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import HTTPConnection

from apflow.core.service.task_service import TaskService
from apflow.server.auth.caller import OWNER, Caller
from apflow.server.http.api_error import UnauthorizedError

if TYPE_CHECKING:
    # At run time it is imported only if the server requires tokens, because the import is slow.
    from apflow.server.auth.token import TokenCheck


async def current_service(connection: HTTPConnection) -> TaskService:
    """Return what the caller of a request, or of a WebSocket with the token in a header, may do.

    Raises:
        ApiError: the token does not identify a user, or the caller exceeds its rate limit.
    """
    return service_for(connection, await caller_of(connection.app.state.token_check, bearer(connection)))


def service_for(connection: HTTPConnection, caller: Caller) -> TaskService:
    """Return what a caller may do, and note who it is: for the log, and for the rate.

    Raises:
        TooManyRequestsError: the caller asks too often.
    """
    connection.state.caller = caller
    connection.app.state.rate.check_user(caller.user_id)
    return TaskService(
        connection.app.state.db, caller.user_id, caller.is_admin, author=caller.author, is_served=True
    )


async def caller_of(check: TokenCheck | None, token: str | None) -> Caller:
    """Return who bears a token; the owner, where the server asks for none.

    Raises:
        UnauthorizedError: there is no token, or it is not valid.
        UnavailableError: the keys that verify it are not available now.
    """
    if check is None:
        return OWNER
    if not token:
        raise UnauthorizedError
    return await check.caller(token)


def bearer(connection: HTTPConnection) -> str | None:
    """Return the bearer token of a request; None where it has no such header.

    Raises:
        UnauthorizedError: there are several, or it is of another kind.
    """
    given = connection.headers.getlist("authorization")
    if not given:
        return None
    scheme, _, token = given[0].strip().partition(" ")
    if len(given) > 1 or scheme.lower() != "bearer" or not token.strip():
        raise UnauthorizedError("give one header: Authorization: Bearer TOKEN")
    return token.strip()
