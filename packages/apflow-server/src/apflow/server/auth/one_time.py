"""Tokens of one process for the owner of its database, who starts it and opens its page in a browser.

A token is valid once and for a few minutes: it is exchanged for the token of a session, which never leaves
the cookie of that browser. Both end with the process.
"""

from __future__ import annotations

import secrets
import time
from typing import Final

from apflow.server.auth.caller import OWNER, Caller
from apflow.server.http.api_error import UnauthorizedError

VALID_SECONDS: Final = 300.0
MAX_ISSUED: Final = 100  # tokens that wait to be used; the oldest are dropped
MAX_SESSIONS: Final = 100


class OneTimeTokens:
    """Issues tokens, and says who bears those of sessions: the owner of the database."""

    def __init__(self) -> None:
        self._issued: dict[str, float] = {}  # token -> when it expires, by the monotonic clock
        self._sessions: dict[str, None] = {}  # in the order of their beginning

    def issue(self) -> str:
        """Return a new token, which is valid once."""
        token = secrets.token_urlsafe(32)
        self._issued[token] = time.monotonic() + VALID_SECONDS
        _keep_newest(self._issued, MAX_ISSUED)
        return token

    def session_token(self, token: str) -> str:
        """Exchange a token for that of a session.

        Raises:
            UnauthorizedError: the token was used, has expired, or was never issued.
        """
        if self._issued.pop(token, float("-inf")) < time.monotonic():
            raise UnauthorizedError("it was used already, or has expired: `apflow ui` opens the page again")
        session = secrets.token_urlsafe(32)
        self._sessions[session] = None
        _keep_newest(self._sessions, MAX_SESSIONS)
        return session

    async def caller(self, token: str) -> Caller:
        """Return the owner of the database, for the token of a session.

        Raises:
            UnauthorizedError: it is not that of a session.
        """
        if token not in self._sessions:
            raise UnauthorizedError("it is not that of a session: `apflow ui` opens the page again")
        return OWNER

    def forget(self, token: str) -> None:
        """End the session of a token."""
        self._sessions.pop(token, None)

    async def close(self) -> None:
        """Do nothing: there are no connections."""


def _keep_newest(found: dict[str, float] | dict[str, None], most: int) -> None:
    for oldest in list(found)[: max(0, len(found) - most)]:
        del found[oldest]
