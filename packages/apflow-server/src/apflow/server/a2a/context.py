"""Call contexts of the A2A SDK for requests over HTTP, with the caller that was identified before."""

from __future__ import annotations

from typing import Final

# First, because of a cycle of imports in the SDK (1.3): else its client has no transport for 0.3 over gRPC.
import a2a.client  # noqa: F401  # pyright: ignore[reportUnusedImport]
from a2a.auth.user import User
from a2a.extensions.common import HTTP_EXTENSION_HEADER, get_requested_extensions
from a2a.server.context import ServerCallContext
from a2a.server.routes.common import ServerCallContextBuilder
from a2a.utils.errors import VersionNotSupportedError
from starlette.requests import Request

from apflow.core.service.task_service import TaskService
from apflow.server.a2a.calls import CALL, Call
from apflow.server.auth.caller import Caller

VERSION_HEADER: Final = "a2a-version"
SERVICE: Final = "a2a_service"  # attributes of the state of a request
VERSION: Final = "a2a_version"


def check_version(asked: str, served: str) -> None:
    """Check the version that a client asks for. Its patch number does not count (section 3.6).

    Args:
        asked: what the client has sent; empty if it has sent none.
        served: the version that the called method belongs to.

    Raises:
        VersionNotSupportedError: it is another version.
    """
    major, _, rest = asked.strip().partition(".")
    if asked and (major, rest.partition(".")[0] or "0") != tuple(served.split(".")):
        raise VersionNotSupportedError(f"Version {asked} of A2A is not supported here. Use {served}.")


class KnownUser(User):
    """The caller, as the SDK sees it."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    @property
    def is_authenticated(self) -> bool:
        """Whether the caller has presented a token."""
        return self._caller.user_id is not None

    @property
    def user_name(self) -> str:
        """The subject of the token."""
        return self._caller.user_id or ""


class ContextBuilder(ServerCallContextBuilder):
    """Makes the context of a request, from what the endpoint has stored in its state."""

    def build(self, request: Request) -> ServerCallContext:
        """Return the context of a request.

        Raises:
            VersionNotSupportedError: the client asks for another version.
        """
        service: TaskService = getattr(request.state, SERVICE)
        version: str = getattr(request.state, VERSION)
        headers = dict(request.headers)
        check_version(headers.get(VERSION_HEADER, ""), version)
        headers[VERSION_HEADER] = version
        caller: Caller = request.state.caller
        return ServerCallContext(
            user=KnownUser(caller),
            state={"headers": headers, CALL: Call(service, caller, request, version)},
            requested_extensions=get_requested_extensions(request.headers.getlist(HTTP_EXTENSION_HEADER)),
        )
