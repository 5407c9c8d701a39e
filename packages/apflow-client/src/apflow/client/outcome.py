"""Run and wait in a client: request the run, follow its events, and read its outcome. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from apflow.client.call import Call
from apflow.core.model.task import Json
from apflow.core.service.run_outcome import run_outcome


def read_execution(call: Call) -> tuple[Call, bool]:
    """Return the call to send, and whether the client then waits for the end of the run.

    A client does not wait on one long request: it follows the events. Tasks to create get a key, so that
    the request may be repeated; unless they have IDs, which a key would replace.
    """
    waits, streams = call.operation.wait_parameter, call.operation.stream_parameter
    if waits is None:
        return call, False
    sent = {name: value for name, value in call.params.items() if name not in (waits, streams)}
    tasks = sent.get("tasks")
    if tasks is not None and not _has_ids(tasks):
        sent.setdefault("idempotency_key", uuid.uuid4().hex)
    return replace(call, params=sent), call.params.get(waits) is True


def _has_ids(tasks: Json) -> bool:
    array = cast("list[Json]", tasks) if isinstance(tasks, list) else [tasks]
    return any(isinstance(each, dict) and ("id" in each or "tasks" in each) for each in array)


def outcome_of(executed: Mapping[str, Json], standing: Mapping[str, Json], root: Json) -> dict[str, Json]:
    """Return the outcome of a run, in the form of `tasks.execute` with `wait`."""
    return {
        **executed,
        **run_outcome(standing["status"], standing["progress"], standing["error"], root["result"]),
    }
