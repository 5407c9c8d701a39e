"""Tasks as plain JSON, as every interface returns them; values of secret-like keys are masked as ***."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from apflow.core.model.task import Json, Task, to_json, utc_now
from apflow.core.payload.secrets import mask

MASKED_FIELDS = ("inputs", "params")


def masked(task: Mapping[str, Json]) -> dict[str, Json]:
    """Return a task with the values of secret-like keys masked as ***."""
    shown_task = dict(task) | {name: mask(task[name]) for name in MASKED_FIELDS if task.get(name)}
    policy = cast("dict[str, Json]", task.get("policy") or {})
    if policy.get("for_each"):  # its list, and the inputs and params of its tasks
        shown_task["policy"] = {**policy, "for_each": mask(policy["for_each"])}
    return shown_task


def shown(task: Task) -> dict[str, Json]:
    """Return a task as interfaces return it."""
    return masked(task.to_dict())


def nested(tasks: Sequence[Task], root_id: str) -> dict[str, Json]:
    """Return a task with its descendants as interfaces return them, each with its `children`."""
    by_id: dict[str, dict[str, Json]] = {task.id: shown(task) | {"children": []} for task in tasks}
    for task in tasks:
        if task.parent_id is not None and task.parent_id in by_id and task.id != root_id:
            by_id[task.parent_id]["children"].append(by_id[task.id])
    return by_id[root_id]


def snapshot(tree: Mapping[str, Json], sequence: int) -> dict[str, Json]:
    """Return the snapshot event of a nested tree, which replaces all events up to a sequence number."""
    return {
        "type": "snapshot",
        "task_id": tree["id"],
        "key": tree["key"],
        "root_task_id": tree["id"],
        "timestamp": to_json(utc_now()),
        "status": tree["status"],
        "progress": tree["progress"],
        "message": None,
        "data": masked_tree(tree),
        "result": None,
        "error": tree["error"],
        "sequence": sequence,
    }


def masked_tree(tree: Mapping[str, Json]) -> dict[str, Json]:
    """Return a nested tree as interfaces return it."""
    shown_tree = masked(tree)
    unseen = [shown_tree]
    while unseen:
        task = unseen.pop()
        task["children"] = [masked(each) for each in task["children"]]
        unseen.extend(task["children"])
    return shown_tree
