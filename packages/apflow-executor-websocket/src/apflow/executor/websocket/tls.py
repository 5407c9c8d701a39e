"""TLS: whose certificates are trusted."""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path

from apflow.executor.websocket.errors import WebSocketInputError


def tls_context(verify: bool | str) -> ssl.SSLContext:
    """Return the context for `verify`: True for the CAs of the system, False for anybody, or a path of CAs.

    Raises:
        WebSocketInputError: the path leads to no certificates.
    """
    if isinstance(verify, bool):
        return _context(verify, None, 0)
    try:
        return _context(True, verify, Path(verify).stat().st_mtime_ns)
    except (OSError, ValueError) as error:  # SSLError is an OSError
        cause = getattr(error, "strerror", None) or error
        raise WebSocketInputError("verify", f"names no CA certificates, {verify!r}: {cause}") from error


# Reading the CAs of the system takes tens of milliseconds. A file that is renewed is read again.
@lru_cache(maxsize=16)
def _context(is_verified: bool, path: str | None, modified: int) -> ssl.SSLContext:
    del modified
    is_folder = path is not None and Path(path).is_dir()
    context = ssl.create_default_context(
        cafile=None if is_folder else path, capath=path if is_folder else None
    )
    context.set_alpn_protocols(["http/1.1"])
    if not is_verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
