"""Time limits that end a call at the stage that a test is about, however busy the machine is."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

E = TypeVar("E", bound=Exception)


async def exceeding(
    kind: type[E], call: Callable[[float], Awaitable[object]], is_there: Callable[[E], object], seconds: float
) -> tuple[E, float]:
    """Make a call exceed its time limit at a certain stage; return the error and the limit.

    A busy machine may not reach the stage in `seconds`. Then the call has five times as long, and five times
    more.

    Args:
        kind: the error that the call must raise each time.
        call: makes the call with a limit in seconds.
        is_there: whether the error says that the stage was reached.
        seconds: the first limit.
    """
    for limit in (seconds, 5 * seconds, 25 * seconds):
        with pytest.raises(kind) as caught:
            await call(limit)
        if is_there(caught.value):
            break
    return caught.value, limit
