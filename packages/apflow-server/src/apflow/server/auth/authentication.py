"""Identifies the caller by the bearer token of a connection, and determines its permissions.

The token is in the Authorization header or, for the page of the server, in the cookie of a session.
"""

from __future__ import annotations

from typing import Protocol

from starlette.requests import HTTPConnection

from apflow.core.service.task_service import TaskService
from apflow.server.auth.caller import OWNER, Caller
from apflow.server.auth.session_cookie import session_token
from apflow.server.http.api_error import UnauthorizedError


class TokenVerifier(Protocol):
    """Says who bears a token."""

    async def caller(self, token: str) -> Caller:
        """Return who bears a token.

        Raises:
            UnauthorizedError: it is not valid.
            UnavailableError: the keys that verify it are not available now.
        """
        ...

    def session_token(self, token: str) -> str:
        """Return the token that the session of a browser uses in exchange for this one.

        Raises:
            UnauthorizedError: the token is not valid, if that is known without the keys.
        """
        ...

    def forget(self, token: str) -> None:
        """End the session of a token, if this process keeps it."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


async def bearer_service(connection: HTTPConnection) -> TaskService:
    """Return what the caller of a request may do, by its bearer token alone: for protocols of programs.

    Raises:
        ApiError: the token does not identify a user, or the caller exceeds its rate limit.
    """
    return service_for(connection, await caller_of(connection.app.state.token_check, bearer(connection)))


async def current_service(connection: HTTPConnection) -> TaskService:
    """Return what the caller of a request may do, by its bearer token or by the cookie of its session.

    Raises:
        ApiError: the token does not identify a user, the request is not one of the page that has the
            session, or the caller exceeds its rate limit.
    """
    verifier: TokenVerifier | None = connection.app.state.token_check
    token = bearer(connection)
    if token is None and verifier is not None:
        token = session_token(connection, connection.app.state.settings)
    return service_for(connection, await caller_of(verifier, token))


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


async def caller_of(check: TokenVerifier | None, token: str | None) -> Caller:
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
