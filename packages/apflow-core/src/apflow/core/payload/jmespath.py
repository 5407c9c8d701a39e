"""Searching JSON by JMESPath, with limits on the time and the size of the result, so that expressions of
untrusted users are safe.

`[@,@]|[@,@]|...` doubles what it is given at each step. So a search counts its work, and weighs whatever it
makes as JSON text before that is used.
"""

from __future__ import annotations

from typing import Any, Final, cast

import jmespath
from jmespath.visitor import TreeInterpreter

from apflow.core.errors import QueryError
from apflow.core.model.task import Json

MAX_SIZE: Final = 10 << 20  # characters of JSON that a search may make at once
MAX_WORK: Final = 2_000_000  # nodes of the expression that are evaluated, and values looked at: 3 seconds
MAKERS: Final = frozenset({
    "filter_projection", "flatten", "function_expression", "multi_select_dict", "multi_select_list",
    "projection", "slice", "value_projection",
})  # fmt: skip


class Query:
    """A JMESPath expression.

    Raises:
        QueryError: it is not a valid expression.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self.parsed: Any = cast("Any", jmespath.compile(text)).parsed
        except (ValueError, RecursionError) as error:  # JMESPathError is a ValueError
            raise QueryError(text, _with_column(error)) from error

    def search(self, value: Json) -> Json:
        """Return the result of the expression for a value. It may contain values that are not JSON (NaN).

        Raises:
            QueryError: it fails on this value, takes too long, or makes too much.
        """
        return self.run(value)[0]

    def run(self, value: Json, max_work: int = MAX_WORK) -> tuple[Json, int]:
        """Return the result of the expression for a value, as `search` does, and the work it took.

        Args:
            max_work: see `MAX_WORK`.
        """
        search = _Search(max_work)
        try:
            return search.visit(self.parsed, value), search.work
        except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
            raise QueryError(self.text, _first_line(error)) from error


class _Search(TreeInterpreter):
    """One evaluation of an expression."""

    def __init__(self, max_work: int) -> None:
        super().__init__()
        self.work = 0
        self._max_work = max_work
        # What was made here, by its id, and what it weighs. It is held, so that its id stays its own.
        self._made: dict[int, tuple[object, int]] = {}
        self.COMPARATOR_FUNC = {  # type: ignore[misc]
            **TreeInterpreter.COMPARATOR_FUNC,
            "eq": self._compared("eq"),
            "ne": self._compared("ne"),
        }

    def visit(self, node: Any, *args: Any, **kwargs: Any) -> Any:
        self._charge(1)
        found: object = super().visit(node, *args, **kwargs)
        if node["type"] in MAKERS:
            weight = self._weigh(found)
            if weight > MAX_SIZE:
                raise ValueError(f"it makes more than {MAX_SIZE} characters of JSON")
            if isinstance(found, list | dict):
                self._made[id(found)] = found, weight  # pyright: ignore[reportUnknownArgumentType]
        return found  # pyright: ignore[reportUnknownVariableType]

    def _compared(self, name: str) -> Any:
        compare = TreeInterpreter.COMPARATOR_FUNC[name]

        def weigh_and_compare(left: object, right: object) -> object:
            if isinstance(left, list | dict) and isinstance(right, list | dict):
                self._weigh(cast("object", left))
            return compare(left, right)

        return weigh_and_compare

    def _charge(self, work: int) -> None:
        self.work += work
        if self.work > self._max_work:
            raise ValueError("it takes too long on so large a value")

    def _weigh(self, value: object) -> int:
        """Return about how many characters a value has as JSON. What was made here is looked into once."""
        if isinstance(value, str):
            return len(value) + 2
        if not isinstance(value, list | dict):
            return 2
        made = self._made.get(id(cast("object", value)))
        if made is not None:
            return made[1]
        self._charge(len(cast("list[object]", value)))
        if isinstance(value, list):
            return 2 + sum(map(self._weigh, cast("list[object]", value)))
        members = cast("dict[str, object]", value)
        return 2 + sum(map(len, members)) + sum(map(self._weigh, members.values()))


def _with_column(error: Exception) -> str:
    """Return the cause of an invalid expression with the column, counted from 1, where it is known."""
    position = getattr(error, "lex_position", getattr(error, "lexer_position", None))
    cause = _first_line(error).partition(": Parse error at column")[0].rstrip(":")
    return f"{cause} at column {position + 1}" if isinstance(position, int) else cause


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
