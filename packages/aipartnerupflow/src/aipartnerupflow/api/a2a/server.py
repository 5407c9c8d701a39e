"""The former functions that make the server of the A2A protocol, and its tokens."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from fastapi import FastAPI

from apflow.core.settings import get_settings
from apflow.server import create_app

__all__ = ["create_a2a_server", "generate_token", "verify_token"]


def create_a2a_server(
    verify_token_secret_key: str | None = None,
    verify_token_algorithm: str = "HS256",  # noqa: S107 - an algorithm
    base_url: str | None = None,
) -> FastAPI:
    """Return the application, which serves A2A and the other protocols.

    Args:
        verify_token_secret_key: at least 32 bytes; requests need a JWT that is signed with it. None for the
            setting `jwt_secret`.
        verify_token_algorithm: the algorithm of these tokens.
        base_url: the address in the agent card; None for the setting `public_url`.

    Raises:
        SettingsError: a value cannot be used.
    """
    settings = get_settings()
    if verify_token_secret_key is not None:
        settings = replace(
            settings, jwt_secret=verify_token_secret_key, jwt_algorithms=(verify_token_algorithm,)
        )
    if base_url is not None:
        settings = replace(settings, public_url=base_url)
    return create_app(settings)


def generate_token(
    payload: dict[str, Any], secret_key: str, algorithm: str = "HS256", expires_in_days: float = 30
) -> str:
    """Return a signed JWT (RFC 7519), as `apflow config gen-token` does.

    Args:
        payload: the claims; `sub` names the user.
        secret_key: at least 32 bytes.
        algorithm: one of RFC 7518, section 3.1.
        expires_in_days: days until the token expires, from now.
    """
    expires = datetime.now(UTC) + timedelta(days=expires_in_days)
    return jwt.encode({**payload, "exp": expires}, secret_key, algorithm=algorithm)


def verify_token(token: str, secret_key: str, algorithm: str = "HS256") -> dict[str, Any] | None:
    """Return the claims of a token; None if its signature is invalid, or it has expired."""
    try:
        claims: dict[str, Any] = jwt.decode(token, secret_key, algorithms=[algorithm])
    except jwt.InvalidTokenError:
        return None
    return claims
