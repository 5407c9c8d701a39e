"""The operation that answers a query in SQL over the history of tasks."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Annotated

from apflow.core.errors import ForbiddenError
from apflow.core.model.sql_query import MAX_QUERY_CHARACTERS, MAX_QUERY_SECONDS, MAX_ROWS, SqlQuery
from apflow.core.model.task import Json
from apflow.core.service.access import Access

if TYPE_CHECKING:  # see `parameters`
    from pydantic import Field


class SqlQueryService(Access):
    """What one caller may ask in SQL."""

    async def query(
        self,
        sql: Annotated[
            str,
            Field(
                min_length=1,
                max_length=MAX_QUERY_CHARACTERS,
                description="One statement in SQL that only reads.",
            ),
        ],
        *,
        limit: Annotated[
            int, Field(ge=1, le=MAX_ROWS, description="The maximum number of rows to return.")
        ] = 1000,
        timeout: Annotated[
            float, Field(gt=0, le=MAX_QUERY_SECONDS, description="Seconds after which the query is stopped.")
        ] = 30.0,
        parquet: Annotated[
            bool, Field(description="Return the rows as a Parquet file, in Base64, instead of JSON.")
        ] = False,
    ) -> dict[str, Json]:
        """Answer a query in SQL over tasks, runs, attempts, events and usage. Only an admin may.

        The SQL is that of DuckDB. The query reads a copy of the views that it names, in a process with limits
        of time and memory, and without access to files, networks and extensions. Inputs, params and results
        of tasks are not in the views. `has_more` says that the limit of rows was reached.

        Raises:
            ForbiddenError: the caller is not an admin.
            InvalidInputError: the SQL is invalid or changes something, a limit is exceeded, or the store
                cannot be queried.
            StoreError: the database cannot be read.
        """
        if not self.is_admin:
            raise ForbiddenError("Only an admin may query the database.")
        query = SqlQuery(text=sql, limit=limit, timeout=timeout, is_parquet=parquet)
        found = await self.db.query(query)
        return {
            "columns": [each._asdict() for each in found.columns],
            "rows": found.rows,
            "row_count": found.row_count,
            "has_more": found.has_more,
            "parquet": None if found.parquet is None else b64encode(found.parquet).decode(),
        }
