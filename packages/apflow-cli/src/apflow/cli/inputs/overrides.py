"""Overrides of the fields of tasks, as `apflow tasks fork` takes them: merge patches (RFC 7396) by task."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final, cast

import click

from apflow.cli.inputs.source import read_option
from apflow.core.authoring.fork_plan import OVERRIDABLE, merged
from apflow.core.errors import InvalidInputError, MalformedTextError
from apflow.core.model.task import Json
from apflow.core.payload.json_text import read_json
from apflow.core.settings import get_settings

EXAMPLE: Final = "--set inputs.url=https://example.com"

Patches = dict[str, dict[str, Json]]  # fields by task


def read_overrides(assignments: Sequence[str], only: str | None) -> Patches:
    """Read `[TASK:]PATH=VALUE`, where a path is a field and members of it, with dots between them.

    Args:
        only: the task that is meant if none is named; None if there are several, or none.

    Raises:
        click.UsageError: one is not of this form, names no task where it must, or repeats a path.
    """
    found: Patches = {}
    for each in assignments:
        target, sign, text = each.partition("=")
        named, colon, path = target.rpartition(":")
        names = path.split(".")
        if not sign or not all(names):
            raise click.UsageError(
                f"--set {each[:80]!r} is not of the form [TASK:]PATH=VALUE, as in {EXAMPLE}."
            )
        if not colon and only is None:
            raise click.UsageError(f"--set {each[:80]!r}: say for which task, as in --set TASK:{path}=VALUE.")
        _put(found.setdefault(named if colon else str(only), {}), names, _value(text), target)
    return found


def _put(fields: dict[str, Json], names: Sequence[str], value: Json, target: str) -> None:
    at: Json = fields
    for name in names[:-1]:
        at = cast("dict[str, Json]", at).setdefault(name, {}) if isinstance(at, dict) else at
    if not isinstance(at, dict) or names[-1] in at:
        raise click.UsageError(
            f"--set {target} is given twice, or within another value. Give each path once."
        )
    at[names[-1]] = value


def _value(text: str) -> Json:
    try:
        return read_json(text, max_depth=get_settings().max_json_depth)
    except MalformedTextError:
        return text


def edited(tasks: Sequence[Mapping[str, Json]], overrides: Mapping[str, Mapping[str, Json]]) -> Patches:
    """Open the fields of tasks in an editor, and return the overrides that lead to what the user wrote.

    Args:
        tasks: the tasks as operations return them.
        overrides: what is overridden already, by ID.

    Raises:
        click.UsageError: what the user wrote is not JSON.
        InvalidInputError: it is not an object of fields for each task, or nothing was changed.
    """
    names = _names(tasks)
    shown: Patches = {names[task["id"]]: {name: task[name] for name in OVERRIDABLE} for task in tasks}
    start = {
        names[task["id"]]: merged(shown[names[task["id"]]], dict(overrides.get(task["id"], {})))
        for task in tasks
    }
    text = click.edit(json.dumps(start, indent=2, ensure_ascii=False) + "\n", extension=".json")
    if text is None and not overrides:
        raise InvalidInputError("Nothing was changed in the editor, so no fork is created.")
    if text is None:
        return {task_id: dict(fields) for task_id, fields in overrides.items()}
    wanted = read_option("--edit", text)
    if not isinstance(wanted, dict) or wanted.keys() != shown.keys():
        raise InvalidInputError(f"--edit: keep one object for each of: {', '.join(shown)}.")
    ids = {name: task_id for task_id, name in names.items()}
    patches: Patches = {}
    for name, fields in cast("dict[str, Json]", wanted).items():
        if not isinstance(fields, dict):
            raise InvalidInputError(f"--edit: {name} must be an object of fields.")
        patches[ids[name]] = cast("dict[str, Json]", patch_between(shown[name], fields, name))
    return patches


def _names(tasks: Sequence[Mapping[str, Json]]) -> dict[str, str]:
    """Return what the editor shows for each ID: the key, if it has one."""
    return {str(task["id"]): str(task["key"] or task["id"]) for task in tasks}


def patch_between(old: Json, new: Json, path: str = "") -> Json:
    """Return the merge patch that turns one value into another.

    Raises:
        InvalidInputError: a member is new or changed to null, which a merge patch cannot say.
    """
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    old, new = cast("dict[str, Json]", old), cast("dict[str, Json]", new)
    patch: dict[str, Json] = {name: None for name in old if name not in new}
    for name, value in new.items():
        if name in old and old[name] == value and type(old[name]) is type(value):
            continue
        if value is None:
            raise InvalidInputError(f"--edit: {path}.{name} cannot become null; leave it out to remove it.")
        patch[name] = patch_between(old.get(name), value, f"{path}.{name}")
    return patch
