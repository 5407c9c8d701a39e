"""The operation that exports trees as lines of JSON, page by page, whatever their size."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

from apflow.core.errors import InvalidInputError
from apflow.core.model.attempt import all_attempts, may_have_records
from apflow.core.model.log import LogLine, LogQuery
from apflow.core.model.task import Json, Task, to_json
from apflow.core.payload.json_value import dumps
from apflow.core.service.logs import details_of
from apflow.core.service.rendering import shown
from apflow.core.service.trees import TreeService
from apflow.core.store.base import TaskQuery

if TYPE_CHECKING:  # see `parameters`
    from pydantic import Field

    from apflow.core.service.parameters import (
        CreatedAfter,
        CreatedBefore,
        IsRunning,
        JsonIds,
        JsonType,
        OfLabel,
        OfName,
        OfTags,
        OfUser,
        Since,
        Statuses,
    )

MAX_LINES: Final = 10_000  # of one page
MAX_PAGE_BYTES: Final = 4 << 20  # after which a page ends
MAX_ROOT_IDS: Final = 1000
ROOTS: Final = 100  # that are read at once
TASKS: Final = 50  # that are read at once: results may be large
EVENTS: Final = 200
LOGS: Final = 500


@dataclass(frozen=True, slots=True)
class Place:
    """Where an export continues: after a root, or within the tree of the root.

    Attributes:
        root: the last root; only what orders roots is known of it. None: before the first one.
        task: the last task of the tree that was exported; None: the tasks of the tree are done.
        sequence: the number of the last event of the tree that was exported; None: the tree is done.
        line: the number of the last line of the logs of the tree that was exported; None: the logs are done.
    """

    root: Task | None = None
    task: Task | None = None
    sequence: int | None = None
    line: int | None = None

    @property
    def is_in_tree(self) -> bool:
        """Whether some of the tree of the root is left."""
        return self.task is not None or self.sequence is not None

    def to_cursor(self) -> str:
        """Return the place as text."""
        place = [_order(self.root), _order(self.task), self.sequence, self.line]
        return json.dumps(place, separators=(",", ":"))

    @classmethod
    def of_cursor(cls, cursor: str | None) -> Place:
        """Read what `to_cursor` returned; None is the beginning.

        Raises:
            InvalidInputError: the text is something else.
        """
        if cursor is None:
            return cls()
        try:
            root, task, sequence, line = json.loads(cursor)
            place = cls(_task(root), _task(task), _number(sequence), _number(line))
            if place.root is None:
                raise ValueError("a place after nothing")  # noqa: TRY301
            return place  # noqa: TRY300
        except (ValueError, TypeError, RecursionError) as error:
            raise InvalidInputError(
                "This cursor is not valid. Pass on the `cursor` of the page before, or omit it."
            ) from error


def _order(task: Task | None) -> list[Json] | None:
    return None if task is None else [to_json(task.created_at), task.position, task.id]


def _task(order: list[Json] | None) -> Task | None:
    """Return a task of which only the order is known."""
    if order is None:
        return None
    created_at, position, task_id = order
    if not isinstance(task_id, str):
        raise TypeError("an ID is a string")
    at = datetime.fromisoformat(created_at).astimezone(UTC)
    return Task(id=task_id, name="", root_id=task_id, created_at=at, position=int(position))


def _number(given: Json) -> int | None:
    return None if given is None else int(given)


class ExportService(TreeService):
    """What one caller may export."""

    async def export(
        self,
        *,
        root_ids: Annotated[
            Iterable[str],
            JsonType(JsonIds),
            Field(max_length=MAX_ROOT_IDS, description="Only trees with these roots."),
        ] = (),
        user_id: OfUser = None,
        status: Statuses = None,
        name: OfName = None,
        label: OfLabel = None,
        tags: OfTags = (),
        is_running: IsRunning = None,
        since: Since = None,
        created_after: CreatedAfter = None,
        created_before: CreatedBefore = None,
        with_logs: Annotated[
            bool, Field(description="Also return what the tasks have logged, after the tasks of each tree.")
        ] = False,
        cursor: Annotated[
            str | None, Field(description="The `cursor` of the page before: continue after it.")
        ] = None,
        limit: Annotated[
            int,
            Field(
                ge=1,
                le=MAX_LINES,
                description="The number of lines after which a page ends; a page may have a few more.",
            ),
        ] = 1000,
    ) -> dict[str, Json]:
        """Export trees with their tasks, attempts and events, one page at a time.

        Each line is an object with one member: a `task` (of a root, also when its run was requested and when
        it ended), an `attempt` of the task before it, a `log` line of the tree, after its tasks, or an
        `event` of the tree, after those. The filters are those of the root. Trees are in the order of their
        creation. `cursor` of the result continues; null means that this was the last page. Trees that change
        meanwhile are exported as they are when they are read.

        Raises:
            InvalidInputError: the cursor is not valid.
        """
        matching = await self._matching(
            user_id=user_id,
            status=status,
            name=name,
            label=label,
            tags=tags,
            key=None,
            root_only=True,
            is_running=is_running,
            original_task_id=None,
            id_prefix=None,
            since=since,
            created_after=created_after,
            created_before=created_before,
        )
        if wanted := list(root_ids):
            matching = replace(matching, ids=wanted)
        lines: list[dict[str, Json]] = []
        place: Place | None = await self._checked(Place.of_cursor(cursor))
        roots: list[Task] = []
        size = 0
        while place is not None and len(lines) < limit and size < MAX_PAGE_BYTES:
            if place.is_in_tree:
                more, place = await self._step(place, with_logs=with_logs)
                lines += more
                size += sum(len(dumps(each)) for each in more)
                continue
            roots = roots or await self.db.find(
                replace(matching, after=place.root, limit=ROOTS, order="created_at")
            )
            place = _entered(roots.pop(0)) if roots else None
        return {"lines": lines, "cursor": None if place is None else place.to_cursor()}

    async def _checked(self, place: Place) -> Place:
        """Return a place that a caller named, after its tree if that is deleted, or not for the caller."""
        if place.root is None or not place.is_in_tree or await self._seen(place.root.id) is not None:
            return place
        return Place(place.root)

    async def _step(self, place: Place, *, with_logs: bool) -> tuple[list[dict[str, Json]], Place]:
        """Return the next lines of a tree, and where it continues."""
        root = place.root
        assert root is not None  # the place is in its tree
        if place.line is not None:
            found_lines = await self.db.logs(LogQuery(root_task_id=root.id, after=place.line, limit=LOGS))
            last = found_lines[-1].number if len(found_lines) == LOGS else None
            return [{"log": _log_line(each)} for each in found_lines], Place(root, None, 0, last)
        if place.task is None:
            events = await self.db.events(root.id, place.sequence or 0, EVENTS)
            last = events[-1].sequence if len(events) == EVENTS else None
            return [{"event": each.to_dict()} for each in events], Place(root, None, last)
        after = place.task if place.task.position >= 0 else None
        query = TaskQuery(root_id=root.id, after=after, limit=TASKS, order="created_at")
        found = await self.db.find(query)
        lines = [line for task in found for line in await self._lines_of(task)]
        if len(found) == TASKS:
            return lines, Place(root, found[-1])
        return lines, Place(root, None, 0, 0 if with_logs else None)

    async def _lines_of(self, task: Task) -> list[dict[str, Json]]:
        line: dict[str, Json] = shown(task)
        if task.id == task.root_id:
            line["run_requested_at"] = to_json(task.run_requested_at)
            line["run_ended_at"] = to_json(task.run_ended_at)
        stored = await self.db.attempts(task.id) if may_have_records(task) else []
        attempts = [
            {"attempt": {"task_id": task.id, "root_id": task.root_id, **each.to_dict()}}
            for each in all_attempts(task, stored)
        ]
        return [{"task": line}, *attempts]


def _log_line(line: LogLine) -> dict[str, Json]:
    ids = {"number": line.number, "task_id": line.task_id, "root_id": line.root_task_id}
    return ids | details_of(line)


def _entered(root: Task) -> Place:
    """Return the place before the first task of a tree."""
    return Place(root, Task(id=root.id, name="", root_id=root.id, created_at=root.created_at, position=-1))
