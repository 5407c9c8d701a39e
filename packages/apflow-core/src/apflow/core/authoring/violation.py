"""What a validation finds wrong, and how its messages show values."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any, cast

from apflow.core.model.task import Json

MAX_FAULTS = 1000  # reported at most: a hostile array has millions
NEAR_FAULTS = 10  # for which similar words are looked for, and what that may cost: pairs of characters,
NEAR_COST = 2_000_000  # of which difflib compares ten in a microsecond


class Violations:
    """The violations that a validation has found, each with its place; only the first are kept."""

    def __init__(self) -> None:
        self.count = 0
        self._found: list[str] = []

    @property
    def found(self) -> list[str]:
        """Each violation as a sentence, then how many were left out."""
        left_out = self.count - len(self._found)
        return [*self._found, f"There are {left_out} more violations."] if left_out else list(self._found)

    def add(self, where: str, fault: str) -> None:
        self.count += 1
        if self.count <= MAX_FAULTS:
            self._found.append(f"{where}: {fault}" if where else fault)

    def near(self, wrong: str, known: Collection[str]) -> str:
        """Return what `near` returns, for the first violations only."""
        return near(wrong, known) if self.count < NEAR_FAULTS else ""


def near(wrong: str, known: Collection[str]) -> str:
    """Return " Did you mean ...?" where something known is spelled like it, else ""."""
    if len(wrong) * sum(map(len, known)) > NEAR_COST:
        return ""
    found = difflib.get_close_matches(wrong, list(known), n=1)
    return f" Did you mean {found[0]!r}?" if found else ""


def shown(value: object) -> str:
    """Return a value as a message shows it: short, and without what might be secret inside."""
    if isinstance(value, str | int | float | bool) or value is None:
        text = repr(value)
        return text if len(text) <= 60 else text[:57] + "..."
    return {"dict": "an object", "list": "a list"}.get(type(value).__name__, f"a {type(value).__name__}")


def read_members(
    value: object, name: str, known: tuple[str, ...], where: str, faults: Violations
) -> dict[str, Json]:
    """Return the members of an object that are known and not null."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        faults.add(where, f"{name} must be an object, not {shown(value)}.")
        return {}
    members = cast("Mapping[Any, Json]", value)
    for key in members:
        if key not in known:
            advice = faults.near(key, known) if isinstance(key, str) else ""
            advice = advice or f" There are: {', '.join(known)}."
            faults.add(where, f"{name} has no key {shown(key)}.{advice}")
    return {key: members[key] for key in members if key in known and members[key] is not None}
