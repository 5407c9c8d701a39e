"""`apflow schedules`: trees that are created and run at certain times."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from apflow.cli.inputs.given_tasks import read_given_tasks, with_given_tasks
from apflow.cli.inputs.options import session_of, with_list, with_service
from apflow.cli.inputs.parameter import parameter_option
from apflow.cli.inputs.root_description import described, with_description_options
from apflow.cli.inputs.times import AnyTime

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService

TIMES = ("at", "start", "end")
ZONE_OF_SCHEDULE = (
    "An offset such as +01:00 may follow; without one, the time is in the zone of the schedule."
)
ZONE = "An offset such as +01:00 may follow; without one, the time is in --timezone."


@click.group()
def schedules() -> None:
    """Create, inspect, change, pause and delete schedules, which run a tree of tasks at certain times.

    A schedule is named by its ID, by the first 8 or more characters of it, or by its name. `apflow worker`,
    `apflow serve` and the daemon start what is due.
    """


def _with_schedule(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.argument("schedule_id", metavar="ID")(command)


@schedules.command()
@with_given_tasks("schedules.create")
@parameter_option("schedules.create", "name", "-n", "--name")
@parameter_option("schedules.create", "cron", "--cron", metavar="EXPRESSION")
@parameter_option("schedules.create", "every", "--every", metavar="SPAN")
@parameter_option("schedules.create", "at", "--at", type=AnyTime(), metavar="TIME", more=ZONE)
@parameter_option("schedules.create", "timezone", "-z", "--timezone", metavar="ZONE")
@parameter_option("schedules.create", "start", "--start", type=AnyTime(), metavar="TIME", more=ZONE)
@parameter_option("schedules.create", "end", "--end", type=AnyTime(), metavar="TIME", more=ZONE)
@parameter_option("schedules.create", "jitter", "--jitter", metavar="SPAN")
@parameter_option("schedules.create", "catch_up", "--catch-up")
@parameter_option("schedules.create", "overlap", "--overlap")
@parameter_option("schedules.create", "user_id", "-u", "--user-id", metavar="ID")
@with_description_options("schedules.create")
@with_service
@click.pass_context
def create(
    ctx: click.Context,
    /,
    tasks: str | None,
    tasks_file: str | None,
    parameters: tuple[str, ...],
    label: str | None,
    tags: tuple[str, ...],
    **fields: Any,
) -> None:
    """Create a schedule for a tree of tasks: by --cron, by an interval, or once.

    `{"$run": "scheduled_at"}` in the inputs of a task becomes the due time.
    """
    from apflow.cli.display.output import write_json, write_note
    from apflow.cli.display.schedule_list import write_schedule
    from apflow.cli.session.place import place_of
    from apflow.cli.session.work import perform
    from apflow.core.errors import ForbiddenError

    trees = described(read_given_tasks(tasks, tasks_file, parameters), label, tags)
    if len(trees) > 1:
        raise click.UsageError(f"A schedule has one tree. These tasks are {len(trees)}.")
    for name in TIMES:
        fields[name] = _in_zone(fields[name], fields["timezone"])

    async def work(service: TaskService) -> tuple[dict[str, Any], bool]:
        made = await service.create_schedule(trees[0], **fields)
        try:
            return made, bool(await service.workers())
        except ForbiddenError:  # only an admin may list them
            return made, True

    found, has_worker = perform(ctx, work)
    if session_of(ctx).is_json:
        write_json({"schedule": found})
    else:
        write_schedule(found)
    if not has_worker:
        write_note(
            f"No worker starts what is due in {place_of(session_of(ctx))}. "
            "`apflow worker`, `apflow serve` or `apflow daemon start` starts one."
        )


def _in_zone(time: Any, zone: str) -> Any:
    """Return a time that the user gave, with the zone if it lacks one."""
    if time is None or time.tzinfo is not None:
        return time
    from zoneinfo import ZoneInfo

    from apflow.core.planning.due_times import fault_of_zone

    if fault := fault_of_zone(zone):
        raise click.UsageError(f"--timezone {zone!r}: {fault}.")
    return time.replace(tzinfo=ZoneInfo(zone))


@schedules.command("list")
@parameter_option("schedules.list", "user_id", "-u", "--user-id", metavar="ID")
@parameter_option("schedules.list", "limit", "--limit")
@with_list
@click.pass_context
def list_schedules(ctx: click.Context, /, **options: Any) -> None:
    """List the schedules, oldest first."""
    from apflow.cli.display.formats import write_as_asked
    from apflow.cli.display.output import write_note
    from apflow.cli.display.schedule_list import write_schedules
    from apflow.cli.session.place import place_of
    from apflow.cli.session.work import perform

    found = perform(ctx, lambda service: service.schedules(**options))
    if not write_as_asked(ctx, {"schedules": found}, (each["id"] for each in found)):
        write_schedules(found)
        if not found:
            write_note(f"There are no schedules in {place_of(session_of(ctx))}.")


@schedules.command()
@_with_schedule
@with_list
@click.pass_context
def show(ctx: click.Context, schedule_id: str) -> None:
    """Show a schedule with its tasks, and the last trees that it has started."""
    from apflow.cli.display.formats import write_as_asked
    from apflow.cli.display.schedule_list import write_schedule
    from apflow.cli.session.work import perform

    found = perform(ctx, lambda service: service.schedule(schedule_id))
    if not write_as_asked(ctx, {"schedule": found}, [found["id"]]):
        write_schedule(found)


@schedules.command("next")
@_with_schedule
@parameter_option("schedules.next", "count", "-n", "--count")
@with_service
@click.pass_context
def next_times(ctx: click.Context, schedule_id: str, count: int) -> None:
    """Show the next due times of a schedule, in its time zone."""
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from apflow.cli.display.output import write_json, write_line, write_note
    from apflow.cli.session.work import perform

    found = perform(ctx, lambda service: service.next_due_times(schedule_id, count))
    if session_of(ctx).is_json:
        write_json(found)
        return
    zone = ZoneInfo(found["timezone"])
    for each in found["due_times"]:
        write_line(datetime.fromisoformat(each).astimezone(zone).isoformat())
    if not found["due_times"]:
        write_note("It has no due time in the future.")


@schedules.command()
@_with_schedule
@with_given_tasks("schedules.update")
@parameter_option("schedules.update", "name", "-n", "--name")
@parameter_option("schedules.update", "cron", "--cron", metavar="EXPRESSION")
@parameter_option("schedules.update", "every", "--every", metavar="SPAN")
@parameter_option("schedules.update", "at", "--at", type=AnyTime(), metavar="TIME", more=ZONE_OF_SCHEDULE)
@parameter_option("schedules.update", "timezone", "-z", "--timezone", metavar="ZONE")
@parameter_option(
    "schedules.update", "start", "--start", type=AnyTime(), metavar="TIME", more=ZONE_OF_SCHEDULE
)
@parameter_option("schedules.update", "end", "--end", type=AnyTime(), metavar="TIME", more=ZONE_OF_SCHEDULE)
@parameter_option("schedules.update", "jitter", "--jitter", metavar="SPAN")
@parameter_option("schedules.update", "catch_up", "--catch-up")
@parameter_option("schedules.update", "overlap", "--overlap")
@parameter_option(
    "schedules.update",
    "clear",
    "--clear",
    multiple=True,
    default=None,
    type=click.Choice(["start", "end", "jitter"]),
    more="Repeatable.",
)
@with_service
@click.pass_context
def update(
    ctx: click.Context,
    /,
    schedule_id: str,
    tasks: str | None,
    tasks_file: str | None,
    parameters: tuple[str, ...],
    **fields: Any,
) -> None:
    """Change settings of a schedule, its tasks, or both. What is not given stays.

    New due times count from now: none in the past is made up for.
    """
    trees = None
    if tasks is not None or tasks_file is not None or parameters:
        trees = read_given_tasks(tasks, tasks_file, parameters)
        if len(trees) > 1:
            raise click.UsageError(f"A schedule has one tree. These tasks are {len(trees)}.")
    given = {name: value for name, value in fields.items() if value not in (None, ())}
    if trees is None and not given:
        raise click.UsageError("Nothing to change: name a setting, as in --cron @daily.")

    async def work(service: TaskService) -> dict[str, Any]:
        naive = [name for name in TIMES if name in given and given[name].tzinfo is None]
        zone = given.get("timezone")
        if naive and zone is None:
            zone = (await service.schedule(schedule_id))["timezone"]
        times = {name: _in_zone(given[name], str(zone)) for name in naive}
        more = {} if trees is None else {"tasks": trees[0]}
        return await service.update_schedule(schedule_id, **(given | times | more))

    _change(ctx, work)


@schedules.command()
@_with_schedule
@with_service
@click.pass_context
def pause(ctx: click.Context, schedule_id: str) -> None:
    """Pause a schedule: nothing is started until it is resumed. Trees that run continue."""
    _change(ctx, lambda service: service.pause_schedule(schedule_id))


@schedules.command()
@_with_schedule
@with_service
@click.pass_context
def resume(ctx: click.Context, schedule_id: str) -> None:
    """Resume a paused schedule. Due times that passed during the pause are left out."""
    _change(ctx, lambda service: service.resume_schedule(schedule_id))


def _change(ctx: click.Context, work: Callable[[TaskService], Any]) -> None:
    from apflow.cli.display.output import write_json
    from apflow.cli.display.schedule_list import write_schedule
    from apflow.cli.session.work import perform

    found = perform(ctx, work)
    if session_of(ctx).is_json:
        write_json({"schedule": found})
    else:
        write_schedule(found)


@schedules.command()
@_with_schedule
@with_service
@click.pass_context
def trigger(ctx: click.Context, schedule_id: str) -> None:
    """Start a tree of a schedule now, also while the schedule is paused or its last tree runs."""
    from apflow.cli.display.output import write_json, write_line
    from apflow.cli.session.work import perform

    found = perform(ctx, lambda service: service.trigger_schedule(schedule_id))
    if session_of(ctx).is_json:
        write_json(found)
    else:
        write_line(found["task_id"])


@schedules.command()
@_with_schedule
@with_service
@click.pass_context
def delete(ctx: click.Context, schedule_id: str) -> None:
    """Delete a schedule. The trees that it has started stay, and continue."""
    from apflow.cli.display.output import write_json, write_line
    from apflow.cli.session.work import perform

    found = perform(ctx, lambda service: service.delete_schedule(schedule_id))
    if session_of(ctx).is_json:
        write_json(found)
    else:
        write_line(f"Deleted schedule {found['schedule_id']}.")
