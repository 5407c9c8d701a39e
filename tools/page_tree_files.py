"""The reference page of files of trees, from their JSON schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from markdown import GENERATED, code, page, table
from operations_page import json_text, kind

from apflow.core.authoring.tree_schema import tree_schema

HEAD = """# Files of trees

A file in JSON or YAML holds an array of tasks, one task, or an object with `params` and `tasks`. [Fields of
a task](task.md) explains what they mean; these tables are the schema, [tree.schema.json](tree.schema.json),
which `apflow validate --schema` writes for your installation, with custom columns. An editor with the YAML
language server checks a file that begins with `# yaml-language-server: $schema=tree.schema.json`. Every
file may have [parameters](task.md#parameters-of-files): a reference to one is accepted as the value of any
field."""
TITLES = {
    "task": "A task", "dependency": "An item of dependencies", "policy": "policy", "budget": "budget",
    "parameter": "A parameter in params", "reference": "A reference to a parameter",
}  # fmt: skip


def tree_files_page() -> str:
    definitions: Mapping[str, Any] = tree_schema()["$defs"]
    return page(HEAD, GENERATED, *(part for each in definitions.items() for part in section(*each)))


SET_BY_THE_ENGINE = "Set by the engine. Ignored in a file."


def section(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"## {TITLES.get(name, name)}"
    yield str(schema.get("description", ""))
    for each in schema.get("oneOf", [schema]):
        if rows := list(rows_of(each)):
            yield table(["field", "type", "default", "meaning"], rows)
            yield ignored(each)
        else:
            yield str(each.get("description", "")).replace("The id", "A string: the id")


def is_other(field: Mapping[str, Any]) -> bool:
    """Whether a field has nothing to show in a row: it accepts any value, and nothing is said about it."""
    return field.get("description", SET_BY_THE_ENGINE) == SET_BY_THE_ENGINE and kind(field) == "any"


def ignored(schema: Mapping[str, Any]) -> str:
    """Return a sentence about the fields without a row."""
    names = {name: field for name, field in schema["properties"].items() if is_other(field)}
    if not names:
        return ""
    listed = ", ".join(map(code, names))
    is_read_only = any("description" in field for field in names.values())
    return (
        f"Set by the engine, and ignored in a file: {listed}."
        if is_read_only
        else f"Accepted, too: {listed}."
    )


def rows_of(schema: Mapping[str, Any]) -> Iterator[list[str]]:
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        if is_other(field):
            continue
        default = (
            "required"
            if name in required
            else code(json_text(field["default"]))
            if "default" in field
            else ""
        )
        yield [code(name), kind(field), default, str(field.get("description", ""))]
