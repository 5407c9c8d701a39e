"""Executors as an interface shows them: what they are, take and come from, and whether they can be used."""

from __future__ import annotations

from apflow.core import plugins
from apflow.core.concurrency.containment import call_contained, read_attribute
from apflow.core.errors import ApflowError
from apflow.core.extensions.registry import GROUP, ExecutorEntry, executor_ids, get_executor
from apflow.core.model.task import Json
from apflow.core.plugins import without_paths
from apflow.core.process.error_text import describe_error


def describe_executor(executor_id: str) -> dict[str, Json]:
    """Return everything there is to know of one executor. It is imported.

    Raises:
        ExecutorNotFoundError: there is none of this id.
        PluginError: it cannot be loaded, or two distributions offer it.
    """
    entry = get_executor(executor_id)
    shown: dict[str, Json] = {
        "id": executor_id,
        "name": _attribute(entry, "name"),
        "description": _attribute(entry, "description"),
        "distribution": entry.distribution,
        "version": plugins.version(entry.distribution) if entry.distribution else None,
        "effect": entry.effect,
        "cancelable": entry.cancelable,
        "max_concurrency": entry.max_concurrency,
        "resources": dict(entry.resources),
        "is_usable": True,
        "problem": None,
        "input_schema": None,
    }
    try:
        shown["input_schema"] = call_contained(lambda: entry.make({}).get_input_schema())
    except ApflowError:
        shown["problem"] = "Its input schema is known only with its params."
    except Exception as error:  # noqa: BLE001  the plugin's own code
        shown |= {
            "is_usable": False,
            "problem": f"It cannot describe itself: {without_paths(describe_error(error))}",
        }
    return shown


def describe_executors() -> list[dict[str, Json]]:
    """Return every executor, registered or installed, by id; a broken one with what is wrong with it."""
    return [_described(executor_id) for executor_id in executor_ids()]


def _described(executor_id: str) -> dict[str, Json]:
    try:
        return describe_executor(executor_id)
    except ApflowError as error:
        owner = next((each for each in plugins.listing(GROUP) if each.name == executor_id), None)
        return {
            "id": executor_id,
            "name": None,
            "description": None,
            "distribution": owner.distribution if owner else None,
            "version": owner.version if owner else None,
            "effect": None,
            "cancelable": None,
            "max_concurrency": None,
            "resources": {},
            "is_usable": False,
            "problem": str(error),
            "input_schema": None,
        }


def _attribute(entry: ExecutorEntry, name: str) -> str | None:
    """Return a string attribute of the executor, from an instance without params if necessary."""
    try:
        value = read_attribute(entry.source, name)
        if isinstance(entry.source, type) and not isinstance(value, str):
            value = call_contained(lambda: getattr(entry.make({}), name, None))
    except Exception:  # noqa: BLE001  the plugin's own code
        return None
    return str.__str__(value) if isinstance(value, str) else None
