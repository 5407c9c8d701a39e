"""A plan of a tree, for people."""

from __future__ import annotations

from collections.abc import Mapping

from apflow.cli.display.names import counted
from apflow.cli.display.output import write_line, write_table
from apflow.core.model.limit import describe_limit
from apflow.core.model.task import Json


def write_plan(plan: Mapping[str, Json]) -> None:
    """Write the tasks of a plan as a table, and then what concerns the tree as a whole."""
    write_table(
        ("wave", "task", "executor", "after", "seconds", "usd", "runs"),
        [
            [
                each["wave"],
                each["key"],
                each["executor"] or "(none)",
                ", ".join(each["dependencies"]),
                each["expected_seconds"],
                each["expected_cost_usd"],
                each["runs"],
            ]
            for each in plan["tasks"]
        ],
    )
    write_line(f"Waves: {len(plan['waves'])}")
    write_line(f"Critical path: {' -> '.join(plan['critical_path'])}{_time(plan)}")
    if plan["expected_cost_usd"] is not None:
        write_line(f"Expected cost: {plan['expected_cost_usd']:.4f} USD")
    if cached := [each["key"] for each in plan["tasks"] if each["cached_from"] is not None]:
        write_line(f"Cached: {', '.join(cached)}")
    for limit in {each["limit"]["key"]: each["limit"] for each in plan["tasks"] if each["limit"]}.values():
        write_line(f"Limit {describe_limit(limit)}")
    for name, values in plan["capabilities"].items():
        if values and name != "secrets":
            write_line(f"{name.capitalize()}: {', '.join(values)}")
    for name, state in plan["secrets"].items():
        write_line(f"Secret {name}: {state}")
    for problem in plan["problems"]:
        write_line(f"Problem: {problem}")


def _time(plan: Mapping[str, Json]) -> str:
    if plan["expected_seconds"] is None:
        return " (no history)"
    missing = plan["without_history"]
    without = f", without {counted(missing, 'task')} that never ran" if missing else ""
    return f" ({plan['expected_seconds']:g} s{without})"
