"""The label and the tags of a tree, given apart from its tasks. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from apflow.core.model.task import Json


def with_description(tasks: Json, label: str | None, tags: Sequence[str]) -> Json:
    """Return tasks whose root has a label and more tags.

    What is not an array of tasks, or one task, is returned unchanged: reading it names the fault.

    Args:
        tasks: as a user wrote them. Each task without a parent is a root.
        label: replaces the label of the root; None: that stays.
        tags: added to the tags of the root.
    """
    if label is None and not tags:
        return tasks
    if isinstance(tasks, Mapping):
        given = cast("Mapping[str, Json]", tasks)
        if set(given) == {"tasks"}:
            return {"tasks": with_description(given["tasks"], label, tags)}
        return _described(given, label, tags)
    if not isinstance(tasks, list):
        return tasks
    return [
        _described(cast("Mapping[str, Json]", each), label, tags) if _is_root(each) else each
        for each in cast("list[Json]", tasks)
    ]


def _is_root(entry: Json) -> bool:
    return isinstance(entry, Mapping) and cast("Mapping[str, Json]", entry).get("parent_id") is None


def _described(entry: Mapping[str, Json], label: str | None, tags: Sequence[str]) -> dict[str, Json]:
    described = dict(entry)
    if label is not None:
        described["label"] = label
    own: object = entry.get("tags") or []
    if tags and isinstance(own, list):
        known = cast("list[Json]", own)
        described["tags"] = [*known, *(each for each in dict.fromkeys(tags) if each not in known)]
    return described
