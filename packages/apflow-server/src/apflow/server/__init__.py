"""Serves apflow over HTTP: JSON-RPC, event streams, webhooks."""

from apflow.server.app import create_app
from apflow.server.embedding import create_router

__all__ = ["create_app", "create_router"]
