"""What must hold of lists: each item has one element, and the result of the list is theirs, in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from apflow.testing.torture.evidence import Evidence
from apflow.testing.torture.trees import is_list, is_once, items_of


def each_item_has_one_element(evidence: Evidence) -> Iterator[str]:
    """Each item of a list has one element, and the list has the results of its elements in their order."""
    arrays = {task["id"]: array for array in evidence.arrays.values() for task in array}
    for list_id, asked in evidence.asked.items():
        task = evidence.tasks.get(list_id)
        if task is None or not is_list(asked) or task["status"] != "completed":
            continue  # other checks say so
        count = items_of(asked, arrays[asked["id"]])
        elements = [evidence.tasks[each] for each in evidence.elements.get(list_id, ())]
        keys = sorted(each["key"] for each in elements)
        if keys != sorted(f"{task['key']}[{at}]" for at in range(count)):
            yield f"{list_id} has {count} items, and the elements {keys}"
            continue
        by_key = {each["key"]: each["result"] for each in elements if each["status"] == "completed"}
        if task["result"] != [by_key.get(f"{task['key']}[{at}]") for at in range(count)]:
            yield f"the result of {list_id} is not that of its elements: {task['result']}"
        for at in range(count):
            result: dict[str, Any] = by_key.get(f"{task['key']}[{at}]", {"item": at})
            if result.get("item") != at:
                yield f"element {at} of {list_id} has worked with item {result.get('item')}"


def what_ends_before(evidence: Evidence, task_id: str) -> list[str]:
    """Return the tasks whose bodies must have succeeded before a task that requires this one starts."""
    asked = evidence.asked.get(task_id, {})
    if not is_list(asked):
        return [task_id]
    return [each for each in evidence.elements.get(task_id, ()) if not is_once(asked)]
