"""What the calls of language models used: tokens, money and time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Final, Literal

from apflow.core.model.task import Json

# What the account can be grouped by.
GroupField = Literal["top_id", "root_id", "task_id", "user_id", "model"]
GROUP_FIELDS: Final[tuple[GroupField, ...]] = ("top_id", "root_id", "task_id", "user_id", "model")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUsage:
    """What one or several calls of models used.

    Attributes:
        input_tokens: of the prompts.
        output_tokens: of the answers.
        cached_tokens: the part of `input_tokens` that the provider read from its cache.
        reasoning_tokens: the part of `output_tokens` that the model used for thinking.
        cost_usd: US dollars; None if a price is not known. A sum leaves out calls without a known price.
        is_estimated: counted here, because the provider reported no usage.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float | None = 0.0
    is_estimated: bool = False

    @property
    def total_tokens(self) -> int:
        """Tokens of prompts and answers."""
        return self.input_tokens + self.output_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageTotals:
    """The sum of calls.

    Attributes:
        calls: the number of calls, those that failed or were cancelled included.
        unpriced_calls: calls whose cost is not known; `cost_usd` leaves them out.
        estimated_calls: calls whose tokens were counted here, because the provider reported none.
        seconds: the duration of the calls, added up.
    """

    calls: int = 0
    unpriced_calls: int = 0
    estimated_calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: UsageTotals) -> UsageTotals:
        """Return the sum."""
        return UsageTotals(**{name: getattr(self, name) + getattr(other, name) for name in TOTALS})

    def to_dict(self) -> dict[str, Json]:
        """Return the totals as interfaces show them."""
        shown: dict[str, Json] = {name: getattr(self, name) for name in TOTALS}
        shown["total_tokens"] = self.input_tokens + self.output_tokens
        return shown | {"cost_usd": round(self.cost_usd, 12), "seconds": round(self.seconds, 3)}


TOTALS: Final = tuple(each.name for each in fields(UsageTotals))


def totals_of(usage: ModelUsage, seconds: float) -> UsageTotals:
    """Return the totals of one call."""
    return UsageTotals(
        calls=1,
        unpriced_calls=int(usage.cost_usd is None),
        estimated_calls=int(usage.is_estimated),
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        cost_usd=usage.cost_usd or 0.0,
        seconds=seconds,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageEntry:
    """The totals of one task and one model, as the store keeps them.

    Attributes:
        root_id: the root of the tree of the task.
        top_id: the root of the outermost tree, where trees are started by tasks of others.
        call_id: the call that this is the usage of. If an answer of the store is lost, the entry is added
            again, and the store counts it once. None: each addition counts.
    """

    task_id: str
    root_id: str
    top_id: str
    user_id: str | None
    model: str
    totals: UsageTotals
    call_id: str | None = None


class RecentCalls:
    """The ids of the calls whose usage was added last, so that a repeated addition is recognized.

    Only one thread at a time may use it.
    """

    def __init__(self, size: int = 10_000) -> None:
        self._size = size
        self._ids: dict[str, None] = {}  # the oldest first

    def has(self, call_id: str | None) -> bool:
        """Return whether the usage of a call was added."""
        return call_id in self._ids

    def note(self, call_id: str | None) -> None:
        """Record that the usage of a call was added."""
        if call_id is None:
            return
        self._ids[call_id] = None
        if len(self._ids) > self._size:
            del self._ids[next(iter(self._ids))]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """Which usage to sum up. None means: any. All conditions must hold.

    Attributes:
        top_ids: of the trees with these roots, and of all trees that were started inside of them.
        root_ids: of these trees alone.
        task_ids: of these tasks.
        user_id: of the tasks of this user.
        since: of tasks with a call after this time.
        group_by: one sum for each combination of these fields; without any, one sum of everything.
    """

    top_ids: Sequence[str] | None = None
    root_ids: Sequence[str] | None = None
    task_ids: Sequence[str] | None = None
    user_id: str | None = None
    since: datetime | None = None
    group_by: tuple[GroupField, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSum:
    """A sum, and the fields that it is grouped by: None for a field that is not."""

    top_id: str | None = None
    root_id: str | None = None
    task_id: str | None = None
    user_id: str | None = None
    model: str | None = None
    totals: UsageTotals = UsageTotals()

    def to_dict(self, group_by: Sequence[GroupField]) -> dict[str, Json]:
        """Return the sum as interfaces show it, with the fields that it is grouped by."""
        return {name: getattr(self, name) for name in group_by} | self.totals.to_dict()


def sum_up(entries: Iterable[UsageEntry | UsageSum], group_by: Sequence[GroupField]) -> list[UsageSum]:
    """Return the sums of entries, in order of the fields that they are grouped by."""
    sums: dict[tuple[str | None, ...], UsageSum] = {}
    for entry in entries:
        key = tuple(getattr(entry, name) for name in group_by)
        fields_of_key: dict[str, Json] = dict(zip(group_by, key, strict=True))
        known = sums.get(key) or UsageSum(**fields_of_key)
        sums[key] = replace(known, totals=known.totals + entry.totals)
    return [sums[key] for key in sorted(sums, key=lambda key: tuple(each or "" for each in key))]
