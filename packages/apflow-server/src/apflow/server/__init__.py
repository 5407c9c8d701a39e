"""Serves apflow over HTTP: JSON-RPC, event streams, webhooks."""

__all__: list[str] = []
