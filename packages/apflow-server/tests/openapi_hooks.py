"""Hooks for schemathesis: the existing tasks, and the responses that do not end."""

from __future__ import annotations

from typing import Any

import schemathesis

TASKS = [f"tree-{at}" for at in range(20)]


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Name tasks that exist, in every other call; have no answer that waits for a run, or streams one."""
    body = case.body
    if not isinstance(body, dict):
        return
    for name in ("task_id", "parent_id"):
        if isinstance(body.get(name), str) and len(body[name]) % 2 == 0:
            body[name] = existing(body[name])
    for name in ("task_ids", "custom_task_ids"):
        if isinstance(body.get(name), list):
            body[name] = [existing(each) if isinstance(each, str) else each for each in body[name]]
    if case.path == "/call/tasks.execute":
        for name in ("wait", "use_streaming"):
            if body.get(name) is True:
                body[name] = False


def existing(text: str) -> str:
    """Return the id of a task, always the same for the same string."""
    at = sum(text.encode("utf-8", "surrogatepass"))
    return TASKS[at % len(TASKS)] + ("-c" if at % 3 == 0 else "")
