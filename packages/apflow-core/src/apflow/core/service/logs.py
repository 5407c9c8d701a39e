"""Operations on what tasks have logged: read and follow it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from apflow.core.events.bus import bus_of
from apflow.core.events.log_follower import LogFollower
from apflow.core.model.log import LEVELS, LogLine, LogQuery, name_of_level
from apflow.core.model.task import Json, Task, to_json
from apflow.core.service.access import Access

if TYPE_CHECKING:  # see `parameters`
    from pydantic import Field

    from apflow.core.service.parameters import LogLimit, LogNumber, MinLevel, Positive, TaskId


Names = dict[str, tuple[str | None, str | None]]  # task ID -> key and name
_UNKNOWN = (None, None)  # of a task that was deleted meanwhile


class LogService(Access):
    """What one caller may read of the logs of tasks."""

    async def logs(
        self,
        task_id: TaskId,
        *,
        attempt: Annotated[
            Positive | None, Field(description="Only lines of the attempt with this number.")
        ] = None,
        after: Annotated[
            LogNumber, Field(description="Number of the last line that the caller has; start after it.")
        ] = 0,
        limit: LogLimit = 1000,
        level: MinLevel = None,
    ) -> list[dict[str, Json]]:
        """Return lines that a task and its descendants have logged; for a root, those of the whole tree.

        The lines are in order of their numbers, which is the order of writing for the lines of one task. To
        continue, pass the number of the last line as `after`.
        """
        query = await self._query(task_id, attempt, after, level)
        lines = await self.db.logs(replace(query, limit=limit))
        return _shown(lines, await self._names({line.task_id for line in lines}))

    async def follow_logs(
        self, task_id: str, *, attempt: int | None = None, after: int = 0, level: str | None = None
    ) -> AsyncGenerator[dict[str, Json], None]:
        """Yield the same lines, and new ones while the run continues; see `logs`."""
        follower = await self.log_follower(task_id, attempt=attempt, after=after, level=level)
        names: Names = {}
        async with aclosing(follower.batches()) as batches:
            async for lines in batches:
                for shown in await self.shown_lines(lines, names):
                    yield shown

    async def log_follower(
        self, task_id: str, *, attempt: int | None = None, after: int = 0, level: str | None = None
    ) -> LogFollower:
        """Return what `follow_logs` iterates over; see `logs` for the parameters."""
        return LogFollower(bus_of(self.db), self.db, await self._query(task_id, attempt, after, level))

    async def shown_lines(self, lines: Sequence[LogLine], names: Names) -> list[dict[str, Json]]:
        """Return lines as interfaces return them.

        Args:
            names: keys and names of tasks by ID; those that are missing are added.
        """
        names |= await self._names({line.task_id for line in lines} - names.keys())
        return _shown(lines, names)

    async def _query(self, task_id: str, attempt: int | None, after: int, level: str | None) -> LogQuery:
        task = await self._task(task_id, with_tree=True)
        return LogQuery(
            root_task_id=task.root_id,
            task_ids=await self._scope(task),
            attempt=attempt,
            after=after,
            min_level=LEVELS[level] if level is not None else 0,
        )

    async def _scope(self, task: Task) -> list[str] | None:
        """Return the IDs of a task and its descendants; None for the whole tree."""
        if task.id == task.root_id:
            return None
        if not task.has_children:
            return [task.id]
        children: dict[str | None, list[str]] = {}
        for each in await self.db.existing_tree(task.root_id, task.id):
            children.setdefault(each.parent_id, []).append(each.id)
        found = [task.id]
        for task_id in found:  # grows
            found += children.get(task_id, ())
        return found

    async def _names(self, task_ids: Collection[str]) -> Names:
        stored = await self.db.get(list(task_ids)) if task_ids else {}
        return {task_id: (task.key, task.name) for task_id, task in stored.items()}


def _shown(lines: Sequence[LogLine], names: Names) -> list[dict[str, Json]]:
    return [
        {
            "number": line.number,
            "task_id": line.task_id,
            "key": names.get(line.task_id, _UNKNOWN)[0],
            "name": names.get(line.task_id, _UNKNOWN)[1],
            **details_of(line),
        }
        for line in lines
    ]


def details_of(line: LogLine) -> dict[str, Json]:
    """Return a line as JSON, without its number and the task that it belongs to."""
    return {
        "attempt": line.attempt,
        "generation": line.generation,
        "timestamp": to_json(line.entry.timestamp),
        "level": name_of_level(line.entry.level),
        "source": line.entry.source,
        "logger": line.entry.logger,
        "message": line.entry.message,
    }
