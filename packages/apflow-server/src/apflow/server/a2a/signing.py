"""Signatures of the agent's card (JWS over its canonical JSON)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from apflow.core.errors import SettingsError
from apflow.core.settings import Settings

if TYPE_CHECKING:
    from a2a.types.a2a_pb2 import AgentCard

DEFAULT_KEY_ID: Final = "apflow"


def sign(card: AgentCard, settings: Settings) -> None:
    """Add a signature to a card.

    Raises:
        SettingsError: the file of APFLOW_A2A_CARD_KEY cannot be read, or is not a private key that can sign.
    """
    from a2a.utils.signing import create_agent_card_signer  # here: `check_key` runs before the start

    pem = read_key(Path(settings.a2a_card_key))
    header = {
        "kid": settings.a2a_card_key_id or DEFAULT_KEY_ID,
        "alg": algorithm_of(pem, settings.a2a_card_key),
        "typ": "JOSE",
    }
    create_agent_card_signer(pem, header)(card)  # type: ignore[arg-type]  # `jku` may be left out


def check_key(name: str) -> None:
    """Check that a file contains a private key that can sign.

    Raises:
        SettingsError: it does not.
    """
    algorithm_of(read_key(Path(name)), name)


def read_key(path: Path) -> bytes:
    """Return the content of a file with a key.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"APFLOW_A2A_CARD_KEY names {str(path)!r}, which cannot be read: {error.strerror}."
        ) from error


def algorithm_of(pem: bytes, name: str) -> str:
    """Return the algorithm of a private key.

    Raises:
        SettingsError: it is not a private key, or one of another kind.
    """
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"APFLOW_A2A_CARD_KEY names {name!r}, which is not an unencrypted private key in PEM format."
        ) from error
    if isinstance(key, EllipticCurvePrivateKey) and isinstance(key.curve, SECP256R1):
        return "ES256"
    if isinstance(key, RSAPrivateKey):
        return "RS256"
    if isinstance(key, Ed25519PrivateKey):
        return "EdDSA"
    raise SettingsError(
        f"APFLOW_A2A_CARD_KEY names {name!r}, whose kind of key cannot sign cards. Use P-256, RSA or Ed25519."
    )
