"""Validation of `resources`: what the call of an executor needs of the process that makes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from apflow.core.authoring.violation import Violations, shown
from apflow.core.model.resources import MAX_RESOURCES, fault_of
from apflow.core.model.task import Json


def read_resources(value: object, name: str, where: str, faults: Violations) -> dict[str, Json]:
    """Read an object of amounts and labels, such as `{"gpu": 1, "zone": "eu"}`."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        example = "{'gpu': 1, 'zone': 'eu'}"
        faults.add(where, f"{name} must be an object, such as {example}, not {shown(value)}.")
        return {}
    given = cast("Mapping[str, Json]", value)
    if len(given) > MAX_RESOURCES:
        faults.add(where, f"{name} may have up to {MAX_RESOURCES} entries, not {len(given):,}.")
        return {}
    for key, each in given.items():
        fault = fault_of(key, each)
        if fault is not None:
            faults.add(where, f"{name}: {fault}.")
    return dict(given)
