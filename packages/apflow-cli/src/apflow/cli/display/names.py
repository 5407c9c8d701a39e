"""Short names for tasks, what runs a task, and numbers with nouns. Ids are cut as long as they are unique."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from apflow.core.model.ids import is_generated
from apflow.core.model.task import Json

SHORT = 8  # characters of a shortened id; commands accept as few
STEP = 5  # by which it grows where two are alike


def short_ids(ids: Iterable[str]) -> dict[str, str]:
    """Return for each id the beginning that distinguishes it from the others; given ids stay whole."""
    whole = list(dict.fromkeys(ids))
    shown = {each: each[:SHORT] if is_generated(each) else each for each in whole}
    while True:
        times = Counter(shown.values())
        alike = [each for each in whole if times[shown[each]] > 1 and len(shown[each]) < len(each)]
        if not alike:
            return shown
        for each in alike:
            shown[each] = each[: len(shown[each]) + STEP]


def executor_of(task: Mapping[str, Json]) -> str:
    """Return the id of the executor that a task names; empty for a group."""
    params: Json = task.get("params")
    schemas: Json = task.get("schemas")
    named: Json = (params and params.get("executor_id")) or (schemas and schemas.get("method"))
    if named:
        return str(named)
    return "" if task.get("has_children") else str(task["name"])


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as "1 task" or "1,200 tasks"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
