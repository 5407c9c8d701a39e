"""The greatest numbers that users may give.

Clocks, sockets and databases have limits: a greater number would fail where it is used, during a run.
"""

from typing import Final

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
