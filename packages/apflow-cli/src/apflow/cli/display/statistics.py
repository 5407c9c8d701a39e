"""Figures of tasks that have ended, for people."""

from __future__ import annotations

from collections.abc import Mapping

from apflow.cli.display.output import write_line, write_note, write_table
from apflow.core.model.task import Json

COLUMNS = ("tasks", "failed", "rate", "retries", "p50", "p95", "max", "total", "calls", "tokens", "usd")


def write_statistics(found: Mapping[str, Json]) -> None:
    """Write the groups as a table, with the total, and then the slowest tasks."""
    if not found["total"]["tasks"]:
        write_note("No task matches that has ended.")
        return
    groups = [[each["group"] or "(none)", *_shown(each)] for each in found["groups"]]
    write_table(
        (found["group_by"], *COLUMNS),
        [*groups, ["total", *_shown(found["total"])]],
        optional=("total", "calls", "tokens", "retries"),
    )
    if found["has_more"]:
        write_note(f"These are the {len(groups)} groups with the most tasks. --limit N shows more.")
    if found["slowest"]:
        write_line()
        write_table(
            ("slowest", "seconds", "status", "executor", "id"),
            [
                [each["name"], _seconds(each["seconds"]), each["status"], each["executor"], each["id"]]
                for each in found["slowest"]
            ],
            optional=("executor",),
        )


def _shown(figures: Mapping[str, Json]) -> list[Json]:
    rate = figures["failure_rate"]
    return [
        figures["tasks"],
        figures["failed"],
        None if rate is None else f"{rate:.1%}",
        figures["retries"],
        *(_seconds(figures[name]) for name in ("p50_seconds", "p95_seconds", "max_seconds", "seconds")),
        figures["calls"],
        figures["input_tokens"] + figures["output_tokens"],
        f"{figures['cost_usd']:.4f}",
    ]


def _seconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"
