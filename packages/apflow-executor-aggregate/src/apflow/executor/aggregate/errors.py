"""How putting results together can fail."""

from __future__ import annotations

from apflow.core.errors import ExecutorError

MIB = 1 << 20


class AggregateError(ExecutorError):
    """The results cannot be put together in the way that was asked for."""


class AggregateTooLargeError(AggregateError):
    """Together the results are larger than one result may be."""

    def __init__(self, count: int, size: int, limit: int) -> None:
        super().__init__(
            f"{count} results take {size / MIB:.1f} MiB together; a result may have {limit / MIB:.1f} MiB. "
            f"Take a part of each with `path`, or aggregate in several steps."
        )
        self.count, self.size, self.limit = count, size, limit
