"""The trees that are run: a small one for named points, 2,000 tasks for random moments, and a long list."""

from typing import Any

Array = list[dict[str, Any]]

ROOT = "root"
TARGET = "target"
RETRYING = "retrying"
LAST = "last"
VICTIM = "victim"
FAN = "fan"

LINKS = 20  # tasks of one chain of the large tree


def task(task_id: str, executor: str, *needs: str, required: bool = True, **more: Any) -> dict[str, Any]:
    dependencies = [{"id": each, "required": required} for each in needs]
    named = {"id": task_id, "name": task_id, "parent_id": ROOT, "schemas": {"method": executor}}
    return {**named, "dependencies": dependencies, **more}


def retry(delay: float) -> dict[str, Any]:
    return {"retry": {"max_attempts": 5, "delay": delay, "jitter": False}}


def small(target_executor: str) -> Array:
    """Return a group of a few tasks, of which the target is the one that something happens to."""
    return [
        {"id": ROOT, "name": ROOT},
        task("first", "note"),
        task(TARGET, target_executor, "first"),
        task(RETRYING, "flaky", "first", policy=retry(0.1)),
        task(LAST, "note", TARGET, RETRYING),
    ]


def large(count: int) -> Array:
    """Return a group of `count` tasks in chains, some of which are retried or may run only once.

    The victim needs the last of the first chain, and is there to be cancelled before it starts.
    """
    chains = [link(chain, step) for chain in range(count // LINKS) for step in range(LINKS)]
    return [{"id": ROOT, "name": ROOT}, *chains, task(VICTIM, "note", f"t-0-{LINKS - 1}")]


def fanned(count: int) -> Array:
    """Return a tree in which a task gives a list of `count` items, and another one runs for each of them."""
    for_each = {"items": {"$from": "list", "path": "rows"}, "max_items": count}
    return [
        {"id": ROOT, "name": ROOT},
        task("list", "count", inputs={"count": count}),
        task(FAN, "note", "list", inputs={"number": {"$item": "number"}}, for_each=for_each),
        task(LAST, "note", FAN),
    ]


def link(chain: int, step: int) -> dict[str, Any]:
    task_id = f"t-{chain}-{step}"
    needs = [f"t-{chain}-{step - 1}"] if step else []
    if chain % 10 == 3 and step == 5:
        return task(task_id, "flaky", *needs, policy=retry(0.02))
    if is_once(chain, step):
        return task(task_id, "note", *needs, policy={"effect": "once"})
    # What follows a task that may run only once does not need its success: that failure is tolerated.
    return task(task_id, "note", *needs, required=not is_once(chain, step - 1))


def is_once(chain: int, step: int) -> bool:
    return chain % 10 == 7 and step % 4 == 2
