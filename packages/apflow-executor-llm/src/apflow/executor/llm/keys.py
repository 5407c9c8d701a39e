"""Which key a call uses: the task's own, else the user's stored key, else the environment's."""

from __future__ import annotations

import os
from collections.abc import Iterable

from apflow.core.permissions.origin import Origin
from apflow.core.service.llm_keys import llm_key

# Sent where a server that a client chose needs no key: without any, LiteLLM would send the environment's.
NO_KEY = "no-key"
_KEY_NAMES = ("_KEY", "_TOKEN", "_SECRET")
_SHORTEST = 8  # characters of a value that is masked


def key_for(
    provider: str, given: str | None, api_base: str | None, user_id: str | None, origin: Origin | None
) -> str | None:
    """Return the key of a call; None where LiteLLM takes it from the environment.

    A key that the task does not name itself is sent to an address that the task names only if the writers of
    the tree may use that key: the stored key of the user, if the user, an admin or a program on this machine
    wrote the tree; the key of the environment, if a program on this machine did.

    Args:
        provider: LiteLLM's name of the provider.
        given: the key in the task.
        api_base: the address in the task, or None for the provider's own.
        user_id: the user for whom the task runs.
        origin: who wrote the tree.
    """
    if given:
        return given
    is_remote = origin is not None and origin.is_remote
    if api_base is None or not is_remote or _is_by(origin, user_id):
        stored = llm_key(user_id, provider)
        if stored is not None:
            return stored
    return NO_KEY if api_base is not None and is_remote else None


def _is_by(origin: Origin | None, user_id: str | None) -> bool:
    authors = origin.authors if origin is not None else None
    return all(author.user == user_id or author.is_admin for author in authors or ())


def without_keys(text: str, keys: Iterable[str | None]) -> str:
    """Return a string, such as a provider's error, with keys replaced by `***`."""
    stored = [value for name, value in os.environ.items() if name.upper().endswith(_KEY_NAMES)]
    for key in [*keys, *stored]:
        if key and len(key) >= _SHORTEST:
            text = text.replace(key, "***")
    return text
