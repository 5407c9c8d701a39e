"""Operations on schedules: trees that are created and run at certain times."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Literal

from apflow.core.authoring.array_validation import read_array
from apflow.core.authoring.capability_check import check_tree
from apflow.core.authoring.root_description import with_description
from apflow.core.engine.schedule_store import (
    add_schedule,
    all_schedules,
    change_schedule,
    remove_schedule,
    replace_tasks,
    tasks_of,
)
from apflow.core.engine.scheduled_start import start_tree
from apflow.core.engine.scheduler import wake_schedulers
from apflow.core.errors import (
    AmbiguousTaskError,
    InvalidInputError,
    ScheduleLimitError,
    ScheduleNotFoundError,
)
from apflow.core.model.schedule import CatchUp, Overlap, Schedule
from apflow.core.model.span import seconds_of
from apflow.core.model.task import Json, utc_now
from apflow.core.permissions.origin import as_json
from apflow.core.planning.due_times import (
    MAX_EVERY,
    MAX_JITTER,
    MIN_EVERY,
    due_times,
    fault_of_cron,
    fault_of_zone,
)
from apflow.core.planning.scheduling import OF_DUE_TIMES, changed, paused, resumed, with_next, with_run
from apflow.core.service.access import may_see
from apflow.core.service.rendering import masked
from apflow.core.service.trees import Answers, TreeService
from apflow.core.settings import get_settings

if TYPE_CHECKING:  # see `parameters`
    from pydantic import Field

    from apflow.core.service.parameters import (
        JsonSpan,
        JsonTasks,
        JsonType,
        Owner,
        Positive,
        RootLabel,
        RootTags,
        ScheduleId,
        Tasks,
        Time,
    )

MAX_NAME_LENGTH = 255
MAX_TIMES = 1000  # due times in one answer
MIN_PREFIX_LENGTH = 8  # characters of an id
KINDS_OF_DUE_TIMES = ("cron", "every", "at")
_HIDDEN = ("cursor", "tree", "written_by")  # how the schedule works

Change = Callable[[Schedule], Schedule]


class ScheduleService(TreeService):
    """What one caller may do with schedules."""

    async def create_schedule(
        self,
        tasks: Tasks,
        *,
        name: Annotated[
            str | None, Field(description="Name of the schedule; by default that of the root task.")
        ] = None,
        cron: Annotated[
            str | None,
            Field(
                description="Due times as a cron expression with five fields, such as `30 2 * * 1-5`, or "
                "@hourly, @daily, @weekly, @monthly or @yearly."
            ),
        ] = None,
        every: Annotated[
            str | None,
            JsonType(JsonSpan | None),
            Field(description="Due times at this interval, such as `90s`, `15m`, `12h` or `1d`."),
        ] = None,
        at: Annotated[Time, Field(description="The only due time.")] = None,
        timezone: Annotated[
            str, Field(description="Time zone of the cron expression, such as Europe/Berlin.")
        ] = "UTC",
        start: Annotated[
            Time, Field(description="No due time is before this time. The interval counts from it.")
        ] = None,
        end: Annotated[Time, Field(description="No due time is after this time.")] = None,
        jitter: Annotated[
            str | None,
            JsonType(JsonSpan | None),
            Field(description="Delay each start by a random time up to this, such as `30s`; at most 1d."),
        ] = None,
        catch_up: Annotated[
            Literal["all", "latest", "none"],
            Field(
                description="Which due times are started that no worker could start within a minute: "
                "all, only the latest, or none."
            ),
        ] = "latest",
        overlap: Annotated[
            Literal["skip", "queue", "cancel", "allow"],
            Field(
                description="What a due time does while the last tree runs: skip it, queue it, cancel the "
                "running tree and start when it has ended, or allow both."
            ),
        ] = "skip",
        user_id: Owner = None,
        label: RootLabel = None,
        tags: RootTags = (),
    ) -> dict[str, Json]:
        """Create a schedule, which creates and runs a tree of tasks at each of its due times.

        A server or `apflow worker` on the same database starts the trees. Inputs of the tasks may contain
        `{"$run": "scheduled_at"}`, which becomes the due time.

        Raises:
            InvalidInputError: not exactly one of `cron`, `every` and `at` is given, or a value is invalid.
            TreeInvalidError: the tasks are not a valid tree.
            ForbiddenError: the tasks belong to another user.
            CapabilityRefusedError: a task names what APFLOW_ALLOWED_CAPABILITIES does not allow.
            ScheduleLimitError: the user has too many schedules.
        """
        array, owner = self._own_array(with_description(tasks, label, tags), user_id)
        read = read_array(array, get_settings(), owner).tasks
        check_tree(read)
        root = next(task for task in read if task.parent_id is None)
        now = utc_now().replace(microsecond=0)
        schedule = Schedule(
            id=str(uuid.uuid4()),
            name=root.name if name is None else name,
            user_id=owner,
            created_at=now,
            cron=cron,
            every=every,
            at=_utc("at", at),
            timezone=timezone,
            start=_utc("start", start),
            end=_utc("end", end),
            jitter=jitter,
            catch_up=CatchUp(catch_up),
            overlap=Overlap(overlap),
            written_by=None if self.author is None else as_json((self.author,)),
            cursor=now,
        )
        _check(schedule)
        schedule = with_next(schedule)
        if schedule.next_due is None:
            raise InvalidInputError("The schedule has no due time in the future. Check at, start and end.")
        await self._check_room(owner)
        await add_schedule(self.db, schedule, array)
        wake_schedulers(self.db)
        return _shown(schedule)

    async def schedules(
        self,
        *,
        user_id: Annotated[str | None, Field(description="Only schedules of this user.")] = None,
        limit: Annotated[
            Positive | None, Field(description="The maximum number of schedules to return.")
        ] = 1000,
    ) -> Answers:
        """Return the schedules, oldest first."""
        whose = self._whose(user_id)
        found = [each for each in await self._seen_schedules() if whose is None or each.user_id == whose]
        return [_shown(each) for each in found[:limit]]

    async def schedule(self, schedule_id: ScheduleId) -> dict[str, Json]:
        """Return one schedule with its tasks, and the last trees that it has started.

        Raises:
            ScheduleNotFoundError: there is no such schedule, or the caller may not see it.
            AmbiguousTaskError: several schedules have the name, or ids that begin so.
        """
        schedule = await self._schedule(schedule_id)
        tasks = await tasks_of(self.db, schedule)
        return _shown(schedule) | {"tasks": [masked(each) for each in tasks]}

    async def update_schedule(
        self,
        schedule_id: ScheduleId,
        *,
        tasks: Annotated[
            Json,
            JsonType(JsonTasks | None),
            Field(description="The tasks to create from now on: an array of objects, or one object."),
        ] = None,
        name: Annotated[str | None, Field(description="A new name.")] = None,
        cron: Annotated[
            str | None, Field(description="A new cron expression, instead of an interval or a single time.")
        ] = None,
        every: Annotated[
            str | None,
            JsonType(JsonSpan | None),
            Field(description="A new interval, instead of a cron expression or a single time."),
        ] = None,
        at: Annotated[Time, Field(description="A single due time, instead of repeated ones.")] = None,
        timezone: Annotated[str | None, Field(description="A new time zone of the cron expression.")] = None,
        start: Annotated[Time, Field(description="No due time is before this time.")] = None,
        end: Annotated[Time, Field(description="No due time is after this time.")] = None,
        jitter: Annotated[
            str | None,
            JsonType(JsonSpan | None),
            Field(description="Delay each start by a random time up to this, such as `30s`; at most 1d."),
        ] = None,
        catch_up: Annotated[
            Literal["all", "latest", "none"] | None,
            Field(description="Which due times are started that no worker could start within a minute."),
        ] = None,
        overlap: Annotated[
            Literal["skip", "queue", "cancel", "allow"] | None,
            Field(description="What a due time does while the last tree runs."),
        ] = None,
        clear: Annotated[
            Sequence[Literal["start", "end", "jitter"]],
            JsonType(Annotated[list[Literal["start", "end", "jitter"]], Field(max_length=3)]),
            Field(description="Settings to remove."),
        ] = (),
    ) -> dict[str, Json]:
        """Change settings of a schedule, its tasks, or both. What is not given stays.

        If settings that decide the due times change, the next due time is the first one after now, and none
        in the past is made up for. Otherwise the next due time stays. Trees that were started are not
        affected, nor are due times that wait for the end of one. A paused schedule stays paused.

        Raises:
            ScheduleNotFoundError: there is no such schedule, or the caller may not see it.
            AmbiguousTaskError: several schedules have the name, or ids that begin so.
            InvalidInputError: nothing to change is given, or a value is invalid.
            TreeInvalidError: the tasks are not a valid tree.
            CapabilityRefusedError: a task names what APFLOW_ALLOWED_CAPABILITIES does not allow.
            ForbiddenError: the tasks belong to another user.
            ConflictError: other processes change the schedule all the time.
        """
        stored = await self._schedule(schedule_id)
        times = {"at": _utc("at", at), "start": _utc("start", start), "end": _utc("end", end)}
        texts = {"name": name, "cron": cron, "every": every, "timezone": timezone, "jitter": jitter}
        kinds = {
            "catch_up": None if catch_up is None else CatchUp(catch_up),
            "overlap": None if overlap is None else Overlap(overlap),
        }
        given = {key: value for key, value in (times | texts | kinds).items() if value is not None}
        if not given and not clear and tasks is None:
            raise InvalidInputError("Nothing to change is given.")
        change = partial(_edited, given=given, clear=clear, now=utc_now())
        if tasks is None:
            updated = await change_schedule(self.db, stored.id, change)
        else:
            array, owner = self._own_array(tasks, stored.user_id)
            check_tree(read_array(array, get_settings(), owner).tasks)
            change(stored)  # what is invalid is refused before tasks are stored
            signed = None if self.author is None else as_json((self.author,))
            updated = await replace_tasks(
                self.db, stored.id, array, lambda each: replace(change(each), written_by=signed)
            )
        wake_schedulers(self.db)
        return _shown(updated)

    async def pause_schedule(self, schedule_id: ScheduleId) -> dict[str, Json]:
        """Pause a schedule: nothing is started until it is resumed. Trees that run continue.

        Raises:
            ScheduleNotFoundError: there is no such schedule, or the caller may not see it.
            AmbiguousTaskError: several schedules have the name, or ids that begin so.
        """
        return await self._changed(schedule_id, paused)

    async def resume_schedule(self, schedule_id: ScheduleId) -> dict[str, Json]:
        """Resume a paused schedule. Due times that passed during the pause are left out.

        Raises:
            ScheduleNotFoundError: there is no such schedule, or the caller may not see it.
            AmbiguousTaskError: several schedules have the name, or ids that begin so.
        """
        return await self._changed(schedule_id, lambda each: resumed(each, utc_now()))

    async def trigger_schedule(self, schedule_id: ScheduleId) -> dict[str, Json]:
        """Start a tree of a schedule now, also while the schedule is paused or its last tree runs.

        The due times do not change.

        Raises:
            ScheduleNotFoundError: there is no such schedule, or the caller may not see it.
            AmbiguousTaskError: several schedules have the name, or ids that begin so.
            LimitExceededError: too many runs are waiting or in progress.
        """
        schedule, now = await self._schedule(schedule_id), utc_now()
        root_id = await start_tree(self.db, schedule, now, trigger=f"trigger:{uuid.uuid4()}")
        await change_schedule(self.db, schedule.id, lambda each: with_run(each, now, root_id))
        return {"schedule_id": schedule.id, "task_id": root_id, "scheduled_at": now.isoformat()}

    async def delete_schedule(self, schedule_id: ScheduleId) -> dict[str, Json]:
        """Delete a schedule. The trees that it has started stay, and continue.

        Raises:
            ScheduleNotFoundError: there is no such schedule, or the caller may not see it.
            AmbiguousTaskError: several schedules have the name, or ids that begin so.
        """
        schedule = await self._schedule(schedule_id)
        return {"success": await remove_schedule(self.db, schedule.id), "schedule_id": schedule.id}

    async def next_due_times(
        self,
        schedule_id: ScheduleId,
        count: Annotated[
            int, Field(ge=1, le=MAX_TIMES, description="The maximum number of due times to return.")
        ] = 5,
    ) -> dict[str, Json]:
        """Return the next due times of a schedule. A paused schedule starts none of them.

        Raises:
            ScheduleNotFoundError: there is no such schedule, or the caller may not see it.
            AmbiguousTaskError: several schedules have the name, or ids that begin so.
        """
        schedule = await self._schedule(schedule_id)
        after = max(schedule.cursor, utc_now())
        times = [each.isoformat() for each in islice(due_times(schedule, after), count)]
        return {"schedule_id": schedule.id, "timezone": schedule.timezone, "due_times": times}

    async def _check_room(self, owner: str | None) -> None:
        """Raise `ScheduleLimitError` if a user has too many schedules. Concurrent callers may exceed that."""
        limit = get_settings().max_schedules_per_user
        stored = await all_schedules(self.db)
        if sum(each.schedule.user_id == owner for each in stored) >= limit:
            raise ScheduleLimitError(limit, owner)

    async def _changed(self, schedule_id: str, change: Change) -> dict[str, Json]:
        schedule = await self._schedule(schedule_id)
        updated = await change_schedule(self.db, schedule.id, change)
        wake_schedulers(self.db)
        return _shown(updated)

    async def _seen_schedules(self) -> list[Schedule]:
        """Return the schedules that the caller may see, oldest first."""
        stored = [each.schedule for each in await all_schedules(self.db)]
        seen = [each for each in stored if may_see(self, each.user_id)]
        return sorted(seen, key=lambda each: (each.created_at, each.id))

    async def _schedule(self, schedule_id: str) -> Schedule:
        """Return a schedule that the caller may see, by its id or name, or by the first part of its id.

        Raises:
            ScheduleNotFoundError: the caller may see none.
            AmbiguousTaskError: several schedules have the name, or ids that begin so.
        """
        seen = await self._seen_schedules()
        found = [each for each in seen if each.id == schedule_id]
        found = found or [each for each in seen if each.name == schedule_id]
        if not found and len(schedule_id) >= MIN_PREFIX_LENGTH:
            found = [each for each in seen if each.id.startswith(schedule_id)]
        if not found:
            raise ScheduleNotFoundError(schedule_id)
        if len(found) > 1:
            candidates = {each.id: f"{each.name!r} ({each.id})" for each in found}
            raise AmbiguousTaskError(schedule_id, candidates, "schedules")
        return found[0]


def _utc(name: str, time: datetime | None) -> datetime | None:
    if time is not None and time.tzinfo is None:
        raise InvalidInputError(f"{name}: give the time with its zone, such as 2026-11-27T08:30+01:00.")
    return None if time is None else time.astimezone(UTC)


def _edited(
    schedule: Schedule, *, given: Mapping[str, Json], clear: Iterable[str], now: datetime
) -> Schedule:
    """Return the schedule with other settings.

    Raises:
        InvalidInputError: a value is invalid, or there is no due time in the future any more.
    """
    settings = {name: None for name in clear if name not in given} | dict(given)
    if any(name in given for name in KINDS_OF_DUE_TIMES):
        settings = dict.fromkeys(KINDS_OF_DUE_TIMES) | settings
    new = replace(schedule, **settings)
    _check(new)
    new = changed(schedule, new, now)
    if new.next_due is None and any(name in settings for name in OF_DUE_TIMES):
        raise InvalidInputError("The schedule would have no due time in the future. Check at, start and end.")
    return new


def _check(schedule: Schedule) -> None:
    """Raise `InvalidInputError` with every fault of a new schedule."""
    faults = list(_faults(schedule))
    if faults:
        raise InvalidInputError("Invalid schedule: " + " ".join(faults), faults)


def _faults(schedule: Schedule) -> Iterable[str]:
    if not 0 < len(schedule.name) <= MAX_NAME_LENGTH or not schedule.name.isprintable():
        yield f"name: give 1 to {MAX_NAME_LENGTH} printable characters."
    if [schedule.cron, schedule.every, schedule.at].count(None) != 2:
        yield "Give one of cron, every and at."
    if schedule.cron is not None and (fault := fault_of_cron(schedule.cron)):
        yield f"cron: {schedule.cron[:80]!r} is not valid: {fault}."
    if fault := fault_of_zone(schedule.timezone):
        yield f"timezone: {schedule.timezone[:80]!r}: {fault}."
    yield from _span_faults("every", schedule.every, MIN_EVERY, MAX_EVERY)
    yield from _span_faults("jitter", schedule.jitter, 0.0, MAX_JITTER)
    if schedule.start is not None and schedule.end is not None and schedule.end < schedule.start:
        yield "end: it is before start."


def _span_faults(name: str, text: str | None, least: float, most: float) -> Iterable[str]:
    if text is None:
        return
    seconds = seconds_of(text)
    if seconds is None:
        yield f"{name}: {text[:80]!r} is not a span of time. Write it as 90s, 30m, 12h, 7d or 2w."
    elif not least <= seconds <= most:
        yield f"{name}: {text[:80]!r} is {seconds:g} seconds; {least:g} to {most:g} are allowed."


def _shown(schedule: Schedule) -> dict[str, Json]:
    shown = {name: value for name, value in schedule.to_json().items() if name not in _HIDDEN}
    return shown | {"status": schedule.status}
