"""The reference page of executors, from their input schemas."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from markdown import GENERATED, code, page, table
from operations_page import json_text, kind
from repository import Package, packages

from apflow.core.extensions.description import describe_executor

HEAD = """# Executors and their inputs

What `apflow executors show ID` says of each executor that apflow brings. The README of the package, to
which the heading links, describes results and errors. A value may be a [reference](task.md#references) to
the result of a dependency, and one that is secret `{"$secret": "NAME"}`."""
GROUP = "apflow.executors"
# It needs an environment with other versions of libraries.
APART = "apflow-executor-crewai"
EFFECTS = {
    "pure": "Running it twice changes nothing (`effect: pure`).",
    "idempotent": "It may run again after a crash (`effect: idempotent`).",
    "once": "It is not run again after a crash (`effect: once`).",
}


def executors_page() -> str:
    sections = [
        part
        for package in packages()
        for group, name, _ in package.entry_points
        if group == GROUP
        for part in section(package, name)
    ]
    return page(HEAD, GENERATED, *sections)


def section(package: Package, executor_id: str) -> Iterator[str]:
    yield f"## {executor_id}"
    readme = f"[`{package.name}`](../../packages/{package.name}/README.md)"
    if package.name == APART:
        yield f"From {readme}, which describes its inputs."
        return
    found = describe_executor(executor_id)
    if not found["is_usable"]:
        raise SystemExit(f"{executor_id} cannot be described: {found['problem']}")
    yield f"{found['description'].rstrip('.')}. From {readme}. {EFFECTS[found['effect']]}"
    schema: Mapping[str, Any] = found["input_schema"] or {}
    rows = [row(name, field, schema) for name, field in schema.get("properties", {}).items()]
    yield table(["input", "type", "default", "meaning"], rows) if rows else "It takes any inputs."


def row(name: str, field: Mapping[str, Any], schema: Mapping[str, Any]) -> list[str]:
    is_required = name in schema.get("required", [])
    default = "required" if is_required else code(json_text(field["default"])) if "default" in field else ""
    return [code(name), kind(field), default, str(field.get("description", ""))]
