"""Operations that keep a database small: purge and vacuum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from apflow.core.engine.retention import count_purge, purge
from apflow.core.errors import ForbiddenError
from apflow.core.model.task import Json
from apflow.core.planning.retention import ended_roots
from apflow.core.service.access import Access
from apflow.core.service.time_span import read_since

if TYPE_CHECKING:  # see `parameters`
    from pydantic import Field

    from apflow.core.service.parameters import JsonSince, JsonType, OfTags, OfUser, Positive


class RetentionService(Access):
    """What one caller may do so that the database does not grow."""

    async def purge(
        self,
        older_than: Annotated[
            str,
            JsonType(JsonSince),
            Field(
                description="Only trees that ended this time before now, such as `12h`, `30d` or `4w`, or "
                "earlier, or before this time in ISO 8601 format."
            ),
        ],
        *,
        user_id: OfUser = None,
        tags: OfTags = (),
        limit: Annotated[Positive, Field(description="The maximum number of trees to delete.")] = 1000,
        dry_run: Annotated[
            bool, Field(description="Count all trees that would be deleted, and delete none.")
        ] = False,
    ) -> dict[str, Json]:
        """Delete trees that ended long ago, with everything that belongs to them.

        A tree has ended if each of its tasks has. The filters are those of the root. Trees are deleted a few
        at a time, so that other work continues; a tree that is run again meanwhile is not deleted. The usage
        of language models stays in the account. `has_more` of the result says that the limit was reached.
        """
        before = read_since(older_than)
        query = ended_roots(before, user_id=self._whose(user_id), tags=list(tags))
        done = await (count_purge(self.db, query) if dry_run else purge(self.db, query, limit=limit))
        return {
            "trees": done.trees,
            "tasks": done.tasks,
            "has_more": done.has_more,
            "dry_run": dry_run,
            "before": before.isoformat(),
        }

    async def checkpoint(self) -> dict[str, Json]:
        """Apply the journal of a DuckDB file, and write its write-ahead log into it.

        Then the file has everything, and both logs are small. For other databases, nothing happens. Only an
        admin may.

        Raises:
            ForbiddenError: the caller is not an admin.
            StoreError: the database cannot be written, or the disk is full. Nothing is lost.
        """
        if not self.is_admin:
            raise ForbiddenError("Only an admin may write a checkpoint.")
        records, size = await self.db.checkpoint()
        return {"records_applied": records, "size_bytes": size}

    async def vacuum(self) -> dict[str, Json]:
        """Return the space of deleted tasks to the system, and report the size before and after.

        A DuckDB file is replaced by a compact copy; until that is done, changes wait. PostgreSQL
        runs VACUUM, which makes the space available to new rows. Only an admin may.

        Raises:
            ForbiddenError: the caller is not an admin.
            InvalidInputError: the file of the database cannot be replaced.
            StoreError: the database cannot be read, or the disk is full. The database is as it was.
        """
        if not self.is_admin:
            raise ForbiddenError("Only an admin may vacuum the database.")
        before, after = await self.db.vacuum()
        return {"size_bytes_before": before, "size_bytes_after": after}
