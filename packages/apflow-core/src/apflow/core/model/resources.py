"""What the call of an executor needs of the process that makes it, and what a worker offers. Pure.

Resources are written as one object, such as `{"gpu": 1, "zone": "eu"}`. A number is an amount that the call
uses while it runs; a string is a label that the worker must have.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, cast

from apflow.core.bounds import is_number
from apflow.core.errors import SettingsError
from apflow.core.model.task import Json

MAX_RESOURCES: Final = 16  # of one task
MAX_AMOUNT: Final = 1_000_000
NAME_PATTERN: Final = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}"  # of a resource, and the value of a label
EXPECTED: Final = (
    f"a number above 0 and up to {MAX_AMOUNT:,} (an amount), or a string of up to 63 letters, digits and "
    "._/- (a label)"
)

_NAME: Final = re.compile(NAME_PATTERN)


class Needs(NamedTuple):
    """What one call needs: amounts that it uses, and labels that its worker must have."""

    amounts: Mapping[str, float]
    labels: Mapping[str, str]

    @classmethod
    def of(cls, *resources: Mapping[str, Json] | None) -> Needs:
        """Return what objects with resources ask for together; a later one replaces entries of an earlier."""
        merged: dict[str, Json] = {}
        for each in resources:
            merged.update(each or {})
        amounts = {name: float(value) for name, value in merged.items() if not isinstance(value, str)}
        return cls(amounts, {name: value for name, value in merged.items() if isinstance(value, str)})

    @property
    def is_empty(self) -> bool:
        """Whether any process will do."""
        return not self.amounts and not self.labels

    def to_json(self) -> dict[str, Json]:
        """Return the needs as one object."""
        return {**self.amounts, **self.labels}

    def __str__(self) -> str:
        amounts = [f"{name} {value:g}" for name, value in self.amounts.items()]
        return ", ".join([*amounts, *(f"{name} {value!r}" for name, value in self.labels.items())])


@dataclass(frozen=True, slots=True)
class Offer:
    """What a worker offers.

    Attributes:
        amounts: in total, by name.
        executors: the executors that it can call.
        is_open: whether it also calls executors that it finds only by importing their module.
        max_calls: how many calls it makes at once.
    """

    amounts: Mapping[str, float] = field(default_factory=dict[str, float])
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    executors: Collection[str] = ()
    is_open: bool = False
    max_calls: int = 0

    def lacks(self, needs: Needs) -> list[str]:
        """Return what the worker will never have of what a call needs."""
        found = [name for name, amount in needs.amounts.items() if self.amounts.get(name, 0.0) < amount]
        return [*found, *(name for name, value in needs.labels.items() if self.labels.get(name) != value)]

    def has(self, executor_id: str, *, is_importable: bool) -> bool:
        """Return whether the worker calls an executor."""
        return executor_id in self.executors or (is_importable and self.is_open)

    def to_json(self) -> dict[str, Json]:
        """Return the offer as plain JSON."""
        return {
            "resources": dict(self.amounts),
            "labels": dict(self.labels),
            "executors": sorted(self.executors),
            "is_open": self.is_open,
            "max_calls": self.max_calls,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Json]) -> Offer:
        """Return the offer that `to_json` described."""
        return cls(
            data["resources"],
            data["labels"],
            frozenset(cast("Iterable[str]", data["executors"])),
            data["is_open"],
            data["max_calls"],
        )


def fault_of(name: object, value: object) -> str | None:
    """Return what is wrong with an entry of an object of resources; None if it is valid."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return f"the name {name!r:.80} must have 1 to 63 letters, digits and ._/-"
    if isinstance(value, str):
        return None if _NAME.fullmatch(value) else f"{name} must be {EXPECTED}, not {value!r:.80}"
    is_amount = is_number(value, 0, MAX_AMOUNT) and value > 0
    return None if is_amount else f"{name} must be {EXPECTED}, not {value!r:.80}"


def read_amounts(given: Mapping[str, str], setting: str) -> dict[str, float]:
    """Return the amounts that a setting names, such as `gpu=2`.

    Raises:
        SettingsError: one is not a number above 0.
    """
    found: dict[str, float] = {}
    for name, text in given.items():
        try:
            found[name] = float(text)
        except ValueError:
            found[name] = 0.0
        fault = fault_of(name, found[name])
        if fault is not None:
            raise SettingsError(
                f"{setting} has {name}={text}: write an amount above 0 and up to {MAX_AMOUNT:,}, as in gpu=2."
            )
    return found


def read_labels(given: Mapping[str, str], setting: str) -> dict[str, str]:
    """Return the labels that a setting names, such as `zone=eu`.

    Raises:
        SettingsError: one has characters that no label has.
    """
    for name, text in given.items():
        fault = fault_of(name, text)
        if fault is not None:
            raise SettingsError(f"{setting} has {name}={text}: {fault}.")
    return dict(given)


def fitting(
    candidates: Iterable[tuple[str, Mapping[str, float]]], free: Mapping[str, float], limit: int
) -> list[str]:
    """Return the calls that can be made at once, in order.

    Args:
        candidates: the id and the amounts of each call.
        free: the amounts that are not in use.
        limit: how many calls at most.
    """
    left = dict(free)
    found: list[str] = []
    for call_id, amounts in candidates:
        if len(found) == limit:
            break
        if all(left.get(name, 0.0) >= amount for name, amount in amounts.items()):
            found.append(call_id)
            for name, amount in amounts.items():
                left[name] -= amount
    return found


def unmet(executor_id: str, needs: Needs, offers: Sequence[Offer], *, is_importable: bool = False) -> str:
    """Return why no worker can make a call, as a sentence; empty if one can."""
    if not offers:
        return "No worker is alive that makes calls for others: `apflow worker` starts one."
    able = [each for each in offers if each.has(executor_id, is_importable=is_importable)]
    if not able:
        return f"None of the {len(offers)} live workers has the executor {executor_id!r}."
    if any(not each.lacks(needs) for each in able):
        return ""
    lacking = [each.lacks(needs) for each in able]
    missing = Needs.of({
        name: value for name, value in needs.to_json().items() if all(name in each for each in lacking)
    })  # fmt: skip
    if missing.is_empty:
        return f"No live worker offers all of it: {needs}."
    return f"No live worker that has the executor {executor_id!r} offers {missing}."
