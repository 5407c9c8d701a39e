"""The former path of `apflow.server`."""

from apflow.server import create_app

__all__ = ["create_app"]
