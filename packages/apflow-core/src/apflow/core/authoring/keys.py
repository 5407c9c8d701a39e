"""The keys of the tasks of an array: what people call each task within its tree. Pure and linear."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from apflow.core.authoring.field_validation import MAX_TEXT, read_text
from apflow.core.authoring.violation import Violations
from apflow.core.model.task import Json, Task

_ROOM = 12  # characters of a key that are left for "-" and a number


def give_keys(
    tasks: Sequence[Task],
    entries: Sequence[Mapping[str, Json]],
    places: Sequence[str],
    has_ids: bool,
    faults: Violations,
) -> None:
    """Give each task of an array its key: the `key` of its entry, else its id, or a name made unique.

    Args:
        tasks: the tasks that were read, in the order of the array.
        entries: the array.
        places: how messages call each task.
        has_ids: whether ids are the references, or names.
        faults: receives keys that are invalid or that two tasks have.
    """
    if all(entry.get("key") is None for entry in entries):
        if not has_ids:  # else the key is the id, as it is by default
            for task, key in zip(tasks, unique_keys([task.name for task in tasks]), strict=True):
                task.key = key
        return
    given = [_read(entry.get("key"), place, faults) for entry, place in zip(entries, places, strict=True)]
    if has_ids:
        keys = [key or task.id for key, task in zip(given, tasks, strict=True)]
    else:
        names = iter(unique_keys([t.name for key, t in zip(given, tasks, strict=True) if not key], {*given}))
        keys = [key or next(names) for key in given]
    first: dict[str, int] = {}
    for at, (task, key) in enumerate(zip(tasks, keys, strict=True)):
        if first.setdefault(key, at) != at:
            faults.add(places[at], f"key {key!r} is that of tasks[{first[key]}]. Choose another one.")
        task.key = key


def _read(value: object, where: str, faults: Violations) -> str:
    return "" if value is None else read_text(value, "key", where, faults) or ""


def unique_keys(names: Sequence[str], taken: Collection[str] = ()) -> list[str]:
    """Return a key for each name: the name, or the name with a number where another task has it.

    Args:
        names: what the tasks would be called; strings longer than a key may be are shortened.
        taken: keys that other tasks of the tree have.
    """
    wanted = [name if len(name) <= MAX_TEXT else name[: MAX_TEXT - _ROOM] for name in names]
    used = set(taken)
    reserved = set(wanted)  # a number must not make the name of another task
    if len(reserved) == len(wanted) and not used:
        return wanted
    numbers: dict[str, int] = {}
    keys: list[str] = []
    for name in wanted:
        key = name
        if name in used:
            base = name[: MAX_TEXT - _ROOM]
            number = numbers.get(base, 1)
            while key in used or key in reserved:
                number += 1
                key = f"{base}-{number}"
            numbers[base] = number
        used.add(key)
        keys.append(key)
    return keys
