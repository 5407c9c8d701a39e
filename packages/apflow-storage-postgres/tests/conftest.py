"""A server for the tests of this package."""

from apflow.testing.postgres import postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]
