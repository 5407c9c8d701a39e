"""The key under which the result of a task is found by tasks that would do the same. Pure.

A key is the SHA-256 of the canonical JSON of what decides a result. Secrets are in it as references,
`{"$secret": NAME}`: their values never are, so that nothing that is stored is derived from them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Final, cast

from apflow.core.errors import QueryError
from apflow.core.model.span import seconds_of
from apflow.core.model.task import Json, Task
from apflow.core.payload.inputs import query_of
from apflow.core.payload.json_value import dumps

MEMBERS: Final = ("key", "ttl")
MAX_EXPRESSIONS: Final = 20
MAX_LENGTH: Final = 2000  # characters of an expression
MAX_WORK: Final = 100_000  # as in `Query.search`: about 0.2 seconds


def cache_key(
    task: Task, version: str, inputs: Mapping[str, Json], results: Mapping[str, Json]
) -> str | None:
    """Return the key of a task; None if the key in its policy finds nothing, so that it is not cached.

    Args:
        task: with `executor` decided, and `cache` in its policy.
        version: of the executor.
        inputs: of the task, with references to results resolved, and secrets as references.
        results: of its dependencies by their keys, None for those that did not complete.
    """
    chosen = task.policy["cache"].get("key")
    decides: dict[str, Json] = {"inputs": dict(inputs), "results": dict(results)}
    if chosen is not None:
        values = _values([chosen] if isinstance(chosen, str) else chosen, {**results, **inputs})
        if values is None:
            return None
        decides = {"key": values}
    decides |= {
        "user": task.user_id,
        "executor": task.executor,
        "version": version,
        "params": {name: value for name, value in task.params.items() if name != "executor_id"},
        "schemas": {name: value for name, value in task.schemas.items() if name != "method"},
    }
    text = json.dumps(decides, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()


def ttl_of(policy: Mapping[str, Json]) -> float | None:
    """Return for how many seconds a result may be taken; None: without limit."""
    return seconds_of(policy["cache"].get("ttl"))


def _values(expressions: Sequence[str], found_in: dict[str, Json]) -> list[Json] | None:
    """Return what the expressions find; None if one of them finds nothing that is JSON."""
    try:
        values = [query_of(each).run(found_in, MAX_WORK)[0] for each in expressions]
        return None if None in values else cast("list[Json]", json.loads(dumps(values)))
    except (QueryError, ValueError, TypeError):
        return None
