"""HTTP for apflow: a transport for httpx that connects to judged addresses only."""

from __future__ import annotations

from apflow.http.transport import GuardedTransport, ssl_context

__all__ = ["GuardedTransport", "ssl_context"]
