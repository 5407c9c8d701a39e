"""Keys for providers of language models that users leave with this process.

They are kept in memory only: never stored, never returned by an interface, gone with the process.
"""

from __future__ import annotations

from apflow.core.errors import InvalidInputError
from apflow.core.process.identity import ForkLock

MOST = 10_000  # keys of all users
MOST_OF_A_USER = 50
LONGEST = 8192  # characters of a key
LONGEST_PROVIDER = 100

_keys: dict[tuple[str | None, str], str] = {}
_lock = ForkLock()


def set_llm_key(user_id: str | None, provider: str, api_key: str) -> None:
    """Keep the key of a user for a provider, in place of the one before.

    Raises:
        InvalidInputError: the key or the provider is empty or too long, or too many keys are kept.
    """
    if not api_key.strip() or not provider.strip():
        raise InvalidInputError("A key has a provider and a text: neither may be empty.")
    if len(api_key) > LONGEST or len(provider) > LONGEST_PROVIDER:
        raise InvalidInputError(
            f"A key has at most {LONGEST} characters, and the name of its provider {LONGEST_PROVIDER}."
        )
    place = user_id, provider.strip().lower()
    with _lock:
        if place not in _keys and sum(whose == user_id for whose, _ in _keys) >= MOST_OF_A_USER:
            raise InvalidInputError(f"You have left {MOST_OF_A_USER} keys, which is the limit. Delete some.")
        if len(_keys) >= MOST and place not in _keys:
            raise InvalidInputError(f"This process keeps {MOST} keys and takes no more. Delete some.")
        _keys[place] = api_key.strip()


def llm_key(user_id: str | None, provider: str) -> str | None:
    """Return the key of a user for a provider, or None."""
    return _keys.get((user_id, provider.strip().lower()))


def providers_of(user_id: str | None) -> list[str]:
    """Return the providers for which a user has left a key, sorted."""
    with _lock:
        return sorted(provider for whose, provider in _keys if whose == user_id)


def delete_llm_key(user_id: str | None, provider: str) -> bool:
    """Forget the key of a user for a provider; say whether there was one."""
    with _lock:
        return _keys.pop((user_id, provider.strip().lower()), None) is not None
