"""Approvals, for people at a terminal and in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import cast

from apflow.cli.display.names import short_ids
from apflow.cli.display.output import write_columns, write_table
from apflow.cli.display.table import Column
from apflow.cli.display.task_fields import write_task
from apflow.cli.display.times import local
from apflow.core.model.task import Json

PIPED = ("task_id", "name", "status", "question", "asked_at", "deadline", "by")
_COLUMNS = (
    Column("ID"),
    Column("NAME", rank=3),
    Column("STATUS"),
    Column("QUESTION", is_flexible=True),
    Column("ASKED", rank=2),
    Column("DEADLINE", rank=1, needs_value=True),
    Column("BY", rank=4, needs_value=True),
)


def write_approvals(found: Sequence[Mapping[str, Json]]) -> None:
    """Write a list of approvals."""
    rows: list[dict[str, Json]] = [{**each, "by": _decision(each).get("by")} for each in found]
    if not sys.stdout.isatty():
        write_table(PIPED, [[each[column] for column in PIPED] for each in rows])
        return
    ids = short_ids(str(each["task_id"]) for each in rows)
    write_columns(_COLUMNS, [_row(each, ids[str(each["task_id"])]) for each in rows])


def write_approval(found: Mapping[str, Json]) -> None:
    """Write the fields of one approval that have a value; those of the decision among them."""
    decided = {name: value for name, value in _decision(found).items() if name not in ("approved", "at")}
    times = {"deadline": local(found["deadline"]), "decided_at": _decision(found).get("at")}
    shown = {**found, **times, **decided, "decision": None, "approvers": _approvers(found)}
    write_task({name: value for name, value in shown.items() if value not in (None, "", [], {}, False)})


def _approvers(found: Mapping[str, Json]) -> str:
    """Return who may decide: `ann, bob, role boss`."""
    named = cast("dict[str, list[str]]", found["approvers"])
    return ", ".join([*named["users"], *(f"role {each}" for each in named["roles"])])


def _decision(found: Mapping[str, Json]) -> dict[str, Json]:
    return cast("dict[str, Json]", found["decision"] or {})


def _row(found: Mapping[str, Json], short: str) -> list[str]:
    return [
        short,
        str(found["name"]),
        str(found["status"]),
        str(found["question"]),
        local(found["asked_at"]),
        local(found["deadline"]),
        str(found["by"] or ""),
    ]
