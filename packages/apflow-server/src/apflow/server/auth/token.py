"""Bearer tokens: the checks that a token must pass before its claims are used.

The algorithm decides which kind of key may check it, so that a public key is never taken for a secret.
Whatever a token says of where its key is (`jku`, `x5u`, `jwk`, `x5c`) is not looked at.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

import jwt

from apflow.core.errors import SettingsError
from apflow.core.permissions.secret_policy import ADMIN
from apflow.core.settings import MIN_SECRET_LENGTH, Settings
from apflow.server.auth.caller import Caller
from apflow.server.http.api_error import UnauthorizedError

if TYPE_CHECKING:
    from apflow.server.auth.jwks import JwksClient

MAX_TOKEN_LENGTH: Final = 8192  # characters
MAX_USER_LENGTH: Final = 255  # characters
LEEWAY: Final = 5  # seconds between the clocks of two machines
LATEST: Final = 1e12  # seconds since 1970, the latest valid expiry

WITH_SECRET = frozenset({"HS256", "HS384", "HS512"})
WITH_KEYS = frozenset({
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
})  # fmt: skip


class TokenCheck:
    """Says who bears a token.

    Raises:
        SettingsError: the secret is too short, or an algorithm does not match the keys.
    """

    def __init__(self, settings: Settings) -> None:
        self._secret = settings.jwt_secret
        self._keys = _key_ring(settings.jwks_url) if settings.jwks_url else None
        self._algorithms = check_algorithms(settings)
        self._audience = settings.jwt_audience or None
        self._issuer = settings.jwt_issuer or None

    async def caller(self, token: str) -> Caller:
        """Return who bears a token.

        Raises:
            UnauthorizedError: it is not a good one.
            UnavailableError: the keys cannot be fetched now.
        """
        header = read_header(token)
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise UnauthorizedError("its algorithm is not accepted")
        return read_claims(self._decode(token, algorithm, await self._key(algorithm, header)))

    def session_token(self, token: str) -> str:
        """Return the token for the session of a browser: the same, so that no state is kept."""
        return token

    def forget(self, token: str) -> None:
        """Do nothing: a signed token is valid until it expires."""

    async def close(self) -> None:
        """Let go of connections."""
        if self._keys is not None:
            await self._keys.close()

    async def _key(self, algorithm: str, header: Mapping[str, Any]) -> Any:
        if algorithm in WITH_SECRET or self._keys is None:
            return self._secret
        return await self._keys.find(header.get("kid"), algorithm)

    def _decode(self, token: str, algorithm: str, key: Any) -> dict[str, Any]:
        needed = ["exp", "sub"]
        needed += ["aud"] if self._audience else []
        needed += ["iss"] if self._issuer else []
        try:
            return jwt.decode(  # pyright: ignore[reportUnknownMemberType]
                token,
                key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=self._issuer,
                leeway=LEEWAY,
                options={
                    "require": needed,
                    "verify_aud": self._audience is not None,
                    "enforce_minimum_key_length": True,
                },
            )
        except jwt.ExpiredSignatureError as error:
            raise UnauthorizedError("it has expired") from error
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError) as error:
            raise UnauthorizedError(_PROBLEMS.get(type(error), "it is not a valid token")) from error


_PROBLEMS: Mapping[type[Exception], str] = {
    jwt.ImmatureSignatureError: "it is not valid yet",
    jwt.InvalidAudienceError: "it is for another audience",
    jwt.InvalidIssuerError: "it comes from another issuer",
    jwt.MissingRequiredClaimError: "it lacks a claim that is needed",
}


def check_algorithms(settings: Settings) -> frozenset[str]:
    """Return the algorithms that tokens may be signed with.

    Raises:
        SettingsError: the secret is too short, or an algorithm does not match the keys.
    """
    if settings.jwt_secret and len(settings.jwt_secret.encode()) < MIN_SECRET_LENGTH:
        raise SettingsError(
            f"APFLOW_JWT_SECRET has fewer than {MIN_SECRET_LENGTH} bytes. Make one: "
            'python -c "import secrets; print(secrets.token_urlsafe(32))"'
        )
    usable = (WITH_SECRET if settings.jwt_secret else frozenset[str]()) | (
        WITH_KEYS if settings.jwks_url else frozenset[str]()
    )
    if not settings.jwt_algorithms:
        return usable & {"HS256", "RS256", "ES256"}
    unusable = sorted(set(settings.jwt_algorithms) - usable)
    if unusable:
        raise SettingsError(
            f"APFLOW_JWT_ALGORITHMS names {', '.join(unusable)}, which nothing here can check. HS... takes "
            "APFLOW_JWT_SECRET, all others APFLOW_JWKS_URL; 'none' is never accepted."
        )
    return frozenset(settings.jwt_algorithms)


def read_header(token: str) -> dict[str, Any]:
    """Return the header of a token, which is used only to choose a key.

    Raises:
        UnauthorizedError: it is malformed, or requires unsupported extensions.
    """
    if len(token) > MAX_TOKEN_LENGTH:
        raise UnauthorizedError("it is too long")
    if token.count(".") != 2 or not all(token.split(".")) or not token.isascii():
        raise UnauthorizedError("it is not a signed token")
    try:
        jwt.get_unverified_header(token)
        head = token.partition(".")[0]
        text = base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))
        header = json.loads(text, object_pairs_hook=_without_repetition)
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise UnauthorizedError("it is not a valid token") from error
    if "crit" in header or "b64" in header:
        raise UnauthorizedError("it demands what is not understood here")
    return cast("dict[str, Any]", header)


def read_claims(claims: Mapping[str, Any]) -> Caller:
    """Return who a checked token stands for.

    A caller is an admin if it has that role: in `roles` (a list or a string), `role`, or a word of `scope`.

    Raises:
        UnauthorizedError: the claims do not say.
    """
    user_id, ends = claims.get("sub"), claims.get("exp")
    if not isinstance(user_id, str) or not is_name(user_id):
        raise UnauthorizedError("its sub is not a valid user name")
    if isinstance(ends, bool) or not isinstance(ends, int | float) or not abs(ends) <= LATEST:
        raise UnauthorizedError("its exp is not a valid time")
    roles = _roles(claims)
    return Caller(user_id, is_admin=ADMIN in roles, roles=roles, until=ends + LEEWAY)


def _roles(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the roles in a token, each once."""
    given, scope = claims.get("roles"), claims.get("scope")
    found = [claims.get("role"), *(cast("list[object]", given) if isinstance(given, list) else [given])]
    found += scope.split(" ") if isinstance(scope, str) else []
    return tuple(dict.fromkeys(each for each in found if isinstance(each, str) and each))


def is_name(text: str) -> bool:
    """Return whether this is a valid user name."""
    return 0 < len(text) <= MAX_USER_LENGTH and text.isprintable() and not text.isspace()


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _key_ring(url: str) -> JwksClient:
    from apflow.server.auth.jwks import JwksClient  # here: it brings an HTTP client, and few servers need it

    return JwksClient(url)
