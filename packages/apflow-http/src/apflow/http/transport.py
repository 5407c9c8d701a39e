"""A transport for httpx that asks the network policy where a connection is made.

A name is resolved and judged by `apflow.core.net`, and what was judged is connected to: nobody resolves it
again. TLS still verifies the name. Proxies of the environment are not used: they would resolve it themselves.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import httpcore
import httpx

from apflow.core.net import net_policy, resolve
from apflow.core.netpolicy import NetPolicy

Verify = bool | str  # the system's CAs, nobody's, or those of a file

CONNECTIONS = 100  # of one transport, at once
KEEP_ALIVE = 15.0  # seconds that an idle connection is kept


class GuardedTransport(httpx.AsyncHTTPTransport):
    """Sends requests over connections to judged addresses. For one event loop; close it with `aclose()`.

    Args:
        policy: what may be connected to; the one that is set when a connection is made, if None.
        verify: whose certificates are trusted: True the system's CAs, a path those in that file, False any.
        connections: how many at once, over all hosts.
    """

    def __init__(
        self, policy: NetPolicy | None = None, *, verify: Verify = True, connections: int = CONNECTIONS
    ) -> None:
        context = ssl_context(verify)
        super().__init__(verify=context, trust_env=False)
        # httpx 0.28 has no parameter for the network backend of its pool.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=KEEP_ALIVE,
            network_backend=_GuardedBackend(policy),
        )


def ssl_context(verify: Verify) -> ssl.SSLContext:
    """Return the TLS context for what is trusted.

    Raises:
        OSError: the file cannot be read, or holds no certificate (`ssl.SSLError`).
    """
    if verify is True:
        return ssl.create_default_context()
    if verify is False:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    return ssl.create_default_context(cafile=Path(verify).expanduser())


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to the addresses that the policy permits, one after the other."""

    def __init__(self, policy: NetPolicy | None) -> None:
        self._policy = policy
        self._plain = cast("httpcore.AsyncNetworkBackend", httpcore.AnyIOBackend())

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        fault: Exception | None = None
        for endpoint in await resolve(host, port, self._policy or net_policy()):
            try:
                return await self._plain.connect_tcp(
                    endpoint.address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                fault = error
        assert fault is not None  # there is at least one address
        raise fault


def _tells_no_headers(record: logging.LogRecord) -> bool:
    """Leave out what a server answered in its headers: it may repeat a credential."""
    return not str(record.msg).startswith("receive_response_headers.complete")


logging.getLogger("httpcore.http11").addFilter(_tells_no_headers)
