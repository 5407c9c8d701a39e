"""TLS: whose certificates are trusted."""

from __future__ import annotations

import asyncio
import ssl
from functools import lru_cache

from apflow.core.permissions.file_policy import read_certificates
from apflow.executor.websocket.errors import WebSocketInputError


async def tls_context(verify: bool | str) -> ssl.SSLContext:
    """Return the context for `verify`: True for the system's CAs, False to accept any, or a path of CAs.

    Raises:
        WebSocketInputError: the path leads to no certificates.
        FileRefusedError: the file policy does not permit the path.
    """
    if isinstance(verify, bool):
        return _context(verify, None)
    try:
        return await asyncio.to_thread(_context, True, await read_certificates(verify))
    except (OSError, ValueError) as error:  # SSLError is an OSError
        cause = getattr(error, "strerror", None) or error
        raise WebSocketInputError("verify", f"names no CA certificates, {verify!r}: {cause}") from error


# Reading the CAs of the system takes tens of milliseconds.
@lru_cache(maxsize=16)
def _context(is_verified: bool, certificates: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=certificates)
    context.set_alpn_protocols(["http/1.1"])
    if not is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
