"""The former path of the server of the A2A protocol."""

from aipartnerupflow.api.a2a.server import create_a2a_server, generate_token, verify_token

__all__ = ["create_a2a_server", "generate_token", "verify_token"]
