"""`apflow approvals`: what tasks ask people, and what they decide."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

import click

from apflow.cli.inputs.options import session_of, with_list, with_service, with_task
from apflow.cli.inputs.parameter import parameter_option

if TYPE_CHECKING:
    from apflow.core.service.task_service import TaskService


@click.group()
def approvals() -> None:
    """List what tasks ask people, and approve or reject it.

    An approval is named by the ID of its task. Who may decide is what the task says: by default its owner.
    """


@approvals.command("list")
@parameter_option("approvals.list", "status", "-s", "--status")
@parameter_option("approvals.list", "limit", "--limit")
@with_list
@click.pass_context
def list_approvals(ctx: click.Context, /, **options: Any) -> None:
    """List the approvals that wait for a decision, the oldest first; with --status, also those decided."""
    from apflow.cli.display.approval_list import write_approvals
    from apflow.cli.display.formats import write_as_asked
    from apflow.cli.display.output import write_note
    from apflow.cli.session.place import place_of
    from apflow.cli.session.work import perform

    found = perform(ctx, lambda service: service.approvals(**options))
    if not write_as_asked(ctx, {"approvals": found}, (each["task_id"] for each in found)):
        write_approvals(found)
        if not found:
            write_note(f"No approval is {_SHOWN[options['status']]} in {place_of(session_of(ctx))}.")


_SHOWN = {"open": "waiting", "decided": "decided", "all": "waiting or decided"}


@approvals.command()
@with_task
@with_list
@click.pass_context
def show(ctx: click.Context, task_id: str) -> None:
    """Show what a task asks, the data to look at, the form of the answers, and the decision."""
    from apflow.cli.display.approval_list import write_approval
    from apflow.cli.display.formats import write_as_asked
    from apflow.cli.session.work import perform

    async def work(service: TaskService) -> dict[str, Any]:
        return await service.approval(await _named(service, task_id))

    found = perform(ctx, work)
    if not write_as_asked(ctx, {"approval": found}, [found["task_id"]]):
        write_approval(found)


@approvals.command()
@with_task
@click.option(
    "--answer",
    "-a",
    "items",
    metavar="NAME=VALUE",
    multiple=True,
    help="One answer of the form, of the type that it declares. Repeatable.",
)
@parameter_option("approvals.approve", "answers", "--answers", metavar="JSON")
@parameter_option("approvals.approve", "reason", "-m", "--reason", metavar="TEXT")
@with_service
@click.pass_context
def approve(
    ctx: click.Context, task_id: str, items: tuple[str, ...], answers: str | None, reason: str | None
) -> None:
    """Approve what a task asks. It continues."""
    from apflow.cli.inputs.pairs import read_pairs
    from apflow.cli.inputs.run_source import typed_inputs
    from apflow.cli.inputs.source import read_option

    given: Any = {} if answers is None else read_option("--answers", answers)
    if not isinstance(given, dict):
        raise click.UsageError("--answers must be a JSON object.")
    texts = read_pairs("-a", items, "window=night")

    async def work(service: TaskService) -> dict[str, Any]:
        named = await _named(service, task_id)
        whole = cast("dict[str, Any]", given)
        if texts:
            form: dict[str, Any] = (await service.approval(named))["form"] or {}
            whole = {**whole, **typed_inputs(texts, form, option="-a")}
        return await service.approve(named, answers=whole, reason=reason)

    _decide(ctx, work)


@approvals.command()
@with_task
@parameter_option("approvals.reject", "reason", "-m", "--reason", metavar="TEXT")
@with_service
@click.pass_context
def reject(ctx: click.Context, task_id: str, reason: str | None) -> None:
    """Reject what a task asks. It fails, unless its inputs say that it completes."""

    async def work(service: TaskService) -> dict[str, Any]:
        return await service.reject(await _named(service, task_id), reason=reason)

    _decide(ctx, work)


def _decide(ctx: click.Context, work: Callable[[TaskService], Awaitable[dict[str, Any]]]) -> None:
    from apflow.cli.display.output import write_json, write_line
    from apflow.cli.session.work import perform

    found = perform(ctx, work)
    if session_of(ctx).is_json:
        write_json({"approval": found})
    else:
        write_line(f"{found['status'].capitalize()}: {found['question']}")


async def _named(service: TaskService, given: str) -> str:
    """Return the ID of the task that a person means, or what is given if only its approval is visible."""
    from apflow.core.errors import NotFoundError

    try:
        return await service.find_id(given)
    except NotFoundError:
        return given
