"""Conditions of tasks: JMESPath expressions over results that are true or false.

An expression sees one object that maps the key of each dependency to its result, null if the dependency did
not complete. It must give true or false: anything else, such as the null of a misspelled member, is an error
and never a decision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, cast

from apflow.core.errors import QueryError
from apflow.core.model.task import Json
from apflow.core.payload.json_value import dumps

MAX_LENGTH: Final = 2000  # characters of an expression
MAX_WORK: Final = 100_000  # as in `Query.search`: about 0.2 seconds
MAX_SHOWN: Final = 60  # characters of a value that is not true or false, in a message

# Nodes of an expression of which only the first child is evaluated on the object of results.
_FIRST_ONLY: Final = frozenset({
    "filter_projection", "index_expression", "pipe", "projection", "subexpression", "value_projection",
})  # fmt: skip
_SAME: Final = ("current", "identity")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an expression gives for some results."""

    holds: bool
    fault: str | None = None  # why it is neither true nor false
    work: int = 0  # see `MAX_WORK`


class Condition:
    """A compiled condition.

    Raises:
        QueryError: the expression is invalid, calls functions that do not exist, or can give no truth value.
            The cause has the column.
    """

    def __init__(self, text: str) -> None:
        from apflow.core.payload.jmespath import Query  # few tasks have conditions, and it brings the library

        self.text = text
        self._query = Query(text)
        for node in _nodes(self._query.parsed):
            _check_node(node, text)
        self.names = frozenset(_names(self._query.parsed))  # the keys of dependencies that it reads

    def decide(self, results: Mapping[str, Json]) -> Verdict:
        """Return what the expression gives, in bounded time.

        Args:
            results: the result of each dependency by its key, None for one that did not complete.
        """
        try:
            found, work = self._query.run(dict(results), MAX_WORK)
        except QueryError as error:
            return Verdict(False, f"fails: {error.cause}", MAX_WORK)
        if isinstance(found, bool):
            return Verdict(found, None, work)
        return Verdict(False, f"gives {_shown(found)}, not true or false", work)


@lru_cache(maxsize=1024)
def read_condition(text: str) -> Condition:
    """Return the condition for an expression; see `Condition`."""
    return Condition(text)


def _names(parsed: Mapping[str, Any]) -> Iterator[str]:
    """Yield the members of the object of results that an expression reads."""
    waiting = [parsed]
    while waiting:
        node = waiting.pop()
        kind, children = node["type"], node["children"]
        if kind == "field":
            yield node["value"]
        elif kind in _FIRST_ONLY:
            is_same = children[0]["type"] in _SAME and kind in ("pipe", "subexpression")
            waiting += children if is_same else children[:1]
        elif kind not in ("expref", "slice"):
            waiting += children


def _nodes(parsed: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    waiting = [parsed]
    while waiting:
        node = waiting.pop()
        yield node
        if node["type"] != "slice":  # its children are numbers
            waiting += node["children"]


def _check_node(node: Mapping[str, Any], text: str) -> None:
    """Raise `QueryError` for what JMESPath only finds, or never reports, when it evaluates a node."""
    kind, children = node["type"], node["children"]
    if kind in ("subexpression", "index_expression") and children[0]["type"] == "not_expression":
        column = text.find("!") + 1
        raise QueryError(text, f"the ! at column {column} applies before '.' and '[': write !(a.b), not !a.b")
    if kind == "function_expression":
        _check_function(node["value"], len(children), text)


def _check_function(name: str, count: int, text: str) -> None:
    """Raise `QueryError` if a function does not exist or is given a wrong number of arguments."""
    from jmespath.functions import Functions

    table: Mapping[str, Any] = cast("Any", Functions).FUNCTION_TABLE
    column = text.find(f"{name}(") + 1
    place = f" at column {column}" if column else ""
    if name not in table:
        raise QueryError(text, f"there is no function {name!r}{place}")
    signature = table[name]["signature"]
    is_variadic = bool(signature) and signature[-1].get("variadic", False)
    if count < len(signature) or (count > len(signature) and not is_variadic):
        needed = f"at least {len(signature)}" if is_variadic else str(len(signature))
        raise QueryError(text, f"the function {name!r}{place} takes {needed} arguments, not {count}")


def _shown(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    try:
        text = dumps(value).decode()
    except (ValueError, TypeError):  # NaN, or a function
        return f"a {type(value).__name__}"
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."
