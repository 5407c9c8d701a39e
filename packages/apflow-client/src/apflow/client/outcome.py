"""Running and waiting as a client does it: a request, a stream, and a look at how it ended. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import cast

from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json


def read_execution(params: Mapping[str, Json]) -> tuple[dict[str, Json], bool]:
    """Return what is sent to request a run, and whether its end is waited for.

    Nothing waits on one long request: the client follows the events. Tasks that are created get a key, so
    that the request may be repeated; unless they have ids, which a key would replace by others.
    """
    sent = {name: value for name, value in params.items() if name not in ("wait", "use_streaming")}
    tasks = sent.get("tasks")
    if tasks is not None and not _has_ids(tasks):
        sent.setdefault("idempotency_key", uuid.uuid4().hex)
    return sent, params.get("wait") is True


def _has_ids(tasks: Json) -> bool:
    array = cast("list[Json]", tasks) if isinstance(tasks, list) else [tasks]
    return any(isinstance(each, dict) and ("id" in each or "tasks" in each) for each in array)


def outcome_of(executed: Mapping[str, Json], standing: Mapping[str, Json], root: Json) -> dict[str, Json]:
    """Return how a run has ended, as `tasks.execute` with `wait` tells it."""
    status = standing["status"]
    is_done = status == TaskStatus.COMPLETED
    return {
        **executed,
        "success": status not in (TaskStatus.FAILED, TaskStatus.CANCELLED),
        "status": status,
        "progress": standing["progress"],
        "message": "All of it has completed." if is_done else standing["error"] or f"It was {status}.",
        "error": standing["error"],
        "result": root["result"],
    }
