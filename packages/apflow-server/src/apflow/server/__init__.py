"""Serves apflow over HTTP: JSON-RPC, event streams, webhooks."""

from apflow.server.app import create_app

__all__ = ["create_app"]
