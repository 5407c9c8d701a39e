"""Encryption of credentials that the server stores, such as those that it presents to webhooks.

The key is derived from APFLOW_CREDENTIALS_KEY, else from APFLOW_JWT_SECRET. Where neither is set, it is in a
file that only the user of this process can read. Processes that share a database need the same key.
"""

from __future__ import annotations

import base64
import secrets
from pathlib import Path
from typing import Final

import platformdirs
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from apflow.core.errors import SettingsError
from apflow.core.settings import Settings

FILE_NAME: Final = "credentials.key"
PURPOSE: Final = b"apflow stored credentials"


def encrypt(text: str, settings: Settings) -> str:
    """Return a string that only `decrypt` with the same key can read."""
    return _cipher(settings).encrypt(text.encode()).decode()


def decrypt(text: str, settings: Settings) -> str:
    """Return what `encrypt` was given.

    Raises:
        SettingsError: it was encrypted with another key.
    """
    try:
        return _cipher(settings).decrypt(text.encode()).decode()
    except InvalidToken as error:
        raise SettingsError(
            "The stored credentials were encrypted with another key. Set APFLOW_CREDENTIALS_KEY to the same "
            "value for all processes of the database."
        ) from error


def _cipher(settings: Settings) -> Fernet:
    material = settings.credentials_key or settings.jwt_secret
    secret = material.encode() if material else _key_of_file(_key_file())
    derived = HKDF(SHA256(), 32, salt=None, info=PURPOSE).derive(secret)
    return Fernet(base64.urlsafe_b64encode(derived))


def _key_file() -> Path:
    return Path(platformdirs.user_data_dir("apflow")) / FILE_NAME


def _key_of_file(path: Path) -> bytes:
    """Return the key in a file, which is created if it does not exist."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        made.touch(mode=0o600)
        made.write_bytes(secrets.token_bytes(32))
        try:
            path.hardlink_to(made)  # fails if another process was first
        except FileExistsError:
            pass
        finally:
            made.unlink()
    return path.read_bytes()
