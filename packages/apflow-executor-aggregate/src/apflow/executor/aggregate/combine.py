"""Putting results together: pure functions over `{dependency id: result}`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from apflow.core.errors import QueryError
from apflow.core.payload.jmespath import Query
from apflow.executor.aggregate.errors import AggregateError

Results = Mapping[str, Any]
Part = Callable[[str, Any], Any]


def part_of(path: str | None) -> Part:
    """Return the function that takes the part of a result that a JMESPath names; null where it finds none.

    Raises:
        AggregateError: the path is not a valid JMESPath expression.
    """
    if path is None:
        return lambda _, result: result
    try:
        query = Query(path)
    except QueryError as error:
        raise AggregateError(f"`path` {path!r} is not a valid JMESPath expression: {error.cause}") from error

    def take(dependency_id: str, result: Any) -> Any:
        try:
            return query.search(result)
        except QueryError as error:
            raise AggregateError(
                f"`path` {path!r} fails on the result of {dependency_id!r}: {error.cause}"
            ) from error

    return take


def merge(results: Results) -> dict[str, Any]:
    """Return one object of all properties; of two with one name the later result's wins. Null adds nothing.

    Raises:
        AggregateError: a result is not an object.
    """
    merged: dict[str, Any] = {}
    for dependency_id, result in results.items():
        if isinstance(result, dict):
            merged.update(cast("dict[str, Any]", result))
        elif result is not None:
            kind = type(result).__name__
            raise AggregateError(
                f"Only objects can be merged; the result of {dependency_id!r} is of type {kind}. "
                f"Take an object with `path`, or use mode concat."
            )
    return merged


def concat(results: Iterable[Any]) -> list[Any]:
    """Return one list: lists are flattened one level, other values are appended, and null is skipped."""
    joined: list[Any] = []
    for result in results:
        if isinstance(result, list):
            joined.extend(cast("list[Any]", result))
        elif result is not None:
            joined.append(result)
    return joined
