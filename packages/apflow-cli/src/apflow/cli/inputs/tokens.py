"""Making the bearer tokens that a server with the same secret takes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import jwt

from apflow.core.errors import SettingsError
from apflow.core.model.task import Json
from apflow.core.settings import MIN_SECRET_LENGTH, Settings


def make_token(settings: Settings, user_id: str, *, is_admin: bool, seconds: float) -> dict[str, Json]:
    """Return a signed token, whose it is, and when it expires.

    Args:
        seconds: how long it is good.

    Raises:
        SettingsError: there is no secret, it is short, or tokens are not signed with it.
    """
    if len(settings.jwt_secret.encode()) < MIN_SECRET_LENGTH:
        raise SettingsError(
            f"Tokens are signed with APFLOW_JWT_SECRET, of at least {MIN_SECRET_LENGTH} bytes: set it "
            "to what the server has. Where the server uses APFLOW_JWKS_URL, its issuer makes the tokens."
        )
    algorithm = next((each for each in settings.jwt_algorithms or ("HS256",) if each.startswith("HS")), None)
    if algorithm is None:
        raise SettingsError("APFLOW_JWT_ALGORITHMS names none that signs with a secret, as HS256 does.")
    now = datetime.now(UTC)
    expires_at = now + timedelta(seconds=seconds)
    claims: dict[str, Json] = {"sub": user_id, "iat": now, "exp": expires_at}
    claims |= {"aud": settings.jwt_audience} if settings.jwt_audience else {}
    claims |= {"iss": settings.jwt_issuer} if settings.jwt_issuer else {}
    claims |= {"role": "admin"} if is_admin else {}
    token = jwt.encode(claims, settings.jwt_secret, algorithm)
    return {"token": token, "user_id": user_id, "is_admin": is_admin, "expires_at": expires_at.isoformat()}
