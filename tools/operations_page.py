"""Writes the reference page of the operations from their table, so that both say the same.

hatch run dev:python tools/operations_page.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from repository import ROOT, report

from apflow.core.model.task import Json
from apflow.core.service.operations import Operation
from apflow.server.api.dispatch import SERVED

PAGE = ROOT / "docs" / "reference" / "operations.md"
HEAD = """# Operations

The operations that every interface offers. A server provides each as a method of JSON-RPC 2.0 at
`POST /tasks` or `POST /system`, and as `POST /call/<operation>`, which takes the parameters as a JSON object
and returns the result. In Python, they are the methods of `apflow.core.TaskService`.
[Serve](../how-to/serve.md) explains how to call them, and `/openapi.json` of a server contains their
complete schemas.

Operations that are *safe* change nothing and may be repeated. `id` is an alias of `task_id` in every
operation; unknown parameters are refused. In JSON-RPC, the parameters of `tasks.create` may also be a single
task or an array of tasks.

<!-- Made by tools/operations_page.py from the table of operations. -->
"""
TASKS = {"ShownTask": "a [task](task.md)", "NestedTask": "a [task](task.md), with its `children`"}


def kind(schema: Mapping[str, Json]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        return f"`{schema['$ref'].rpartition('/')[2]}`"
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{each}`" for each in schema.get("enum", [schema.get("const")]))
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(kind(each) for each in schema["anyOf"]))
    if schema.get("type") == "array":
        return f"array of {kind(schema.get('items', {}))}"
    if schema.get("format") == "date-time":
        return "time"
    return str(schema.get("type", "any"))


def rows(operation: Operation) -> Iterator[str]:
    schema = operation.parameters_schema()
    for name, field in schema.get("properties", {}).items():
        default: Any = "required" if name in schema.get("required", []) else field.get("default")
        shown = default if default == "required" else "" if default is None else f"`{json_text(default)}`"
        yield f"| `{name}` | {kind(field)} | {shown} | {field.get('description', '')} |"


def json_text(value: Json) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def section(operation: Operation) -> str:
    found = list(rows(operation))
    table = (
        ["| parameter | | default | |", "| --- | --- | --- | --- |", *found] if found else ["No parameters."]
    )
    notes = ["safe"] if operation.is_safe else []
    notes += ["answered with a stream of events"] if operation.is_stream else []
    lines = [f"## {operation.name}", "", operation.summary, *([f"*{', '.join(notes)}*"] if notes else [])]
    return "\n".join([*lines, "", *table, "", f"Result: {result(operation.result_schema())}."]) + "\n"


def result(schema: Mapping[str, Json]) -> str:
    """What an operation returns, in a sentence."""
    if schema.get("type") == "array":
        item = schema["items"]
        return "an array, each " + fields(schema["$defs"][item["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        found = [schema["$defs"][each["$ref"].rpartition("/")[2]] for each in schema["anyOf"]]
        return "; or ".join(fields(each) for each in found)
    return fields(schema)


def fields(schema: Mapping[str, Json]) -> str:
    """What an object is: a task, or the names of its fields."""
    if schema["title"] in TASKS:
        return TASKS[schema["title"]]
    return ", ".join(f"`{name}`" for name in schema["properties"])


def page() -> str:
    return "\n".join([HEAD, *(section(each) for each in SERVED.values())])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    if parser.parse_args().check:
        is_same = PAGE.is_file() and PAGE.read_text() == page()
        faults = [] if is_same else [f"{PAGE.relative_to(ROOT)} is not what the table of operations says"]
        return report(faults, "Run: hatch run dev:python tools/operations_page.py")
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
