"""HTTP for apflow: a transport for httpx that connects to judged addresses only."""

from __future__ import annotations

from apflow.http.transport import IDEMPOTENT, SENDING, GuardedTransport, Sending, ssl_context

__all__ = ["IDEMPOTENT", "SENDING", "GuardedTransport", "Sending", "ssl_context"]
