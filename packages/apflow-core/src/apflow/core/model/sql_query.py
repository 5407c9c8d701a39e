"""A query in SQL over the history of tasks, and its result. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from apflow.core.model.task import Json

MAX_ROWS: Final = 100_000  # of one result
MAX_RESULT_BYTES: Final = 64 << 20
MAX_QUERY_SECONDS: Final = 600.0
MAX_QUERY_CHARACTERS: Final = 100_000


class ResultColumn(NamedTuple):
    """A column of a result, with its type in SQL."""

    name: str
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlQuery:
    """A query.

    Attributes:
        text: one statement that only reads.
        limit: the maximum number of rows of the result.
        timeout: seconds after which the query is stopped.
        is_parquet: whether the result is a Parquet file instead of rows.
    """

    text: str
    limit: int = 1000
    timeout: float = 30.0
    is_parquet: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SqlResult:
    """The result of a query.

    Attributes:
        rows: JSON values; times in ISO 8601, what JSON does not have as text. Empty with a Parquet file.
        row_count: the number of rows.
        has_more: whether the query has more rows than its limit.
        parquet: the Parquet file, if one was asked for.
    """

    columns: list[ResultColumn]
    rows: list[list[Json]]
    row_count: int
    has_more: bool
    parquet: bytes | None = None
