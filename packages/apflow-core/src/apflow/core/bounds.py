"""The greatest numbers that users may give, and whether a value is a number in a range.

Clocks, sockets and databases have limits: a greater number would fail where it is used, during a run.
"""

from typing import Final, TypeGuard

MAX_SECONDS: Final = 365 * 24 * 3600  # of a policy or a setting; added to any date it is a date
MAX_CALL_SECONDS: Final = 14 * 24 * 3600  # of one call: sockets count milliseconds in 32 bits
MAX_COUNT: Final = 2**31 - 1  # what every store can count
MAX_BUDGET: Final = 10**12  # of each amount
MAX_ATTEMPTS: Final = 1_000_000
MAX_BACKOFF: Final = 1000
MAX_ERROR_TYPES: Final = 100  # that a policy names
MAX_TAGS: Final = 50  # of a task, and of a filter
MAX_TAG_LENGTH: Final = 100  # characters
MAX_RATE: Final = 1_000_000  # starts in one period
MAX_RATE_SECONDS: Final = 31 * 24 * 3600  # of a period


def is_integer(value: object, least: int, most: int) -> TypeGuard[int]:
    """Return whether a value is an integer from `least` to `most`. True and False are not integers."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def is_number(value: object, least: float, most: float) -> TypeGuard[int | float]:
    """Return whether a value is a number from `least` to `most`. True and False are not numbers."""
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
