"""The text of an error from users' code."""

from __future__ import annotations


def describe_error(error: BaseException) -> str:
    """Return the type and message of an error from users' code, even if its `__str__` raises."""
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:  # noqa: BLE001 - `__str__` is users' code, too
        return str(type.__getattribute__(type(error), "__name__"))
