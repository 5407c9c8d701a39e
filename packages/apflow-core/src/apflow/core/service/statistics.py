"""The operation that sums up tasks that have ended: durations, failures, retries and what models used."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Literal

from apflow.core.model.statistics import StatisticsField, TaskStatistics, TimedTask
from apflow.core.model.task import Json, to_json
from apflow.core.service.access import Access
from apflow.core.service.time_span import read_since
from apflow.core.store.base import TaskQuery

if TYPE_CHECKING:  # see `parameters`
    from pydantic import Field

    from apflow.core.service.parameters import JsonSince, JsonType, OfLabel, OfName, OfTags, OfUser

GROUPS: dict[str, StatisticsField] = {
    "executor": "executor",
    "name": "name",
    "user": "user_id",
    "label": "label",
    "tag": "tag",
}
MAX_GROUPS = 10_000
MAX_SLOWEST = 1_000


class StatisticsService(Access):
    """What one caller may ask about the tasks that have ended."""

    async def stats(
        self,
        group_by: Annotated[
            Literal["executor", "name", "user", "label", "tag"],
            Field(
                description="What to sum up separately. By `tag`, a task counts for each of its tags, and "
                "once in the total."
            ),
        ] = "executor",
        *,
        since: Annotated[
            str | None,
            JsonType(JsonSince | None),
            Field(
                description="Only tasks that ended in this time before now, such as `12h`, `7d` or `4w`, or "
                "after this time in ISO 8601 format."
            ),
        ] = None,
        until: Annotated[
            str | None,
            JsonType(JsonSince | None),
            Field(description="Only tasks that ended this time before now or earlier, or before this time."),
        ] = None,
        user_id: OfUser = None,
        name: OfName = None,
        executor: Annotated[str | None, Field(description="Only tasks of this executor.")] = None,
        label: OfLabel = None,
        tags: OfTags = (),
        limit: Annotated[
            int,
            Field(ge=1, le=MAX_GROUPS, description="The maximum number of groups: those with most tasks."),
        ] = 100,
        slowest: Annotated[
            int, Field(ge=0, le=MAX_SLOWEST, description="How many of the slowest tasks to return.")
        ] = 10,
    ) -> dict[str, Json]:
        """Sum up tasks that have ended: durations, failure rates, retries, and what language models used.

        Groups of tasks run nothing and are left out; a deleted task is no longer counted. A duration is the
        time from the start of the first attempt to the end, in seconds: the median, the 95th percentile, and
        the longest one. The failure rate is the share of failures among tasks that completed or failed. The
        filters are those of each task, not of its tree. The slowest tasks are returned, too.
        """
        query = TaskQuery(
            user_id=self._whose(user_id),
            name=name,
            executor=executor,
            label=label,
            tags=list(tags),
            completed_after=None if since is None else read_since(since),
            completed_before=None if until is None else read_since(until),
        )
        total = await self.db.statistics(query)
        groups = await self.db.statistics(query, GROUPS[group_by], limit + 1) if total else []
        longest = await self.db.slowest(query, slowest) if total and slowest else []
        return {
            "since": to_json(query.completed_after),
            "until": to_json(query.completed_before),
            "group_by": group_by,
            "total": (total[0] if total else TaskStatistics()).to_dict(),
            "groups": [{"group": each.group} | each.to_dict() for each in groups[:limit]],
            "has_more": len(groups) > limit,
            "slowest": [_shown(each) for each in longest],
        }


def _shown(task: TimedTask) -> dict[str, Json]:
    values = {each.name: to_json(getattr(task, each.name)) for each in fields(task)}
    return values | {"seconds": round(task.seconds, 6)}
