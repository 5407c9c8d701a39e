"""Keys of users for providers of language models.

Keys are kept in the memory of the process only: they are neither stored nor returned by an interface.
"""

from __future__ import annotations

from apflow.core.errors import InvalidInputError
from apflow.core.process.identity import ForkLock

MAX_KEYS = 10_000  # keys of all users
MAX_PER_USER = 50
MAX_KEY_LENGTH = 8192  # characters of a key
MAX_PROVIDER_LENGTH = 100

_keys: dict[tuple[str | None, str], str] = {}
_lock = ForkLock()


def set_llm_key(user_id: str | None, provider: str, api_key: str) -> None:
    """Store the key of a user for a provider, replacing the previous key.

    Raises:
        InvalidInputError: the key or the provider is empty or too long, or too many keys are stored.
    """
    if not api_key.strip() or not provider.strip():
        raise InvalidInputError("Neither the key nor the provider may be empty.")
    if len(api_key) > MAX_KEY_LENGTH or len(provider) > MAX_PROVIDER_LENGTH:
        raise InvalidInputError(
            f"A key may have at most {MAX_KEY_LENGTH} characters, "
            f"and a provider at most {MAX_PROVIDER_LENGTH}."
        )
    place = user_id, provider.strip().lower()
    with _lock.lock:
        if place not in _keys and sum(whose == user_id for whose, _ in _keys) >= MAX_PER_USER:
            raise InvalidInputError(
                f"You have stored {MAX_PER_USER} keys, which is the limit. Delete some of them."
            )
        if len(_keys) >= MAX_KEYS and place not in _keys:
            raise InvalidInputError(
                f"The server has stored {MAX_KEYS} keys, which is the limit. Delete some of them."
            )
        _keys[place] = api_key.strip()


def llm_key(user_id: str | None, provider: str) -> str | None:
    """Return the key of a user for a provider, or None."""
    return _keys.get((user_id, provider.strip().lower()))


def providers_of(user_id: str | None) -> list[str]:
    """Return the providers for which a user has stored a key, sorted."""
    with _lock.lock:
        return sorted(provider for whose, provider in _keys if whose == user_id)


def delete_llm_key(user_id: str | None, provider: str) -> bool:
    """Delete the key of a user for a provider; return whether there was one."""
    with _lock.lock:
        return _keys.pop((user_id, provider.strip().lower()), None) is not None
