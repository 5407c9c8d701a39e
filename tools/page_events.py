"""The reference page of events."""

from __future__ import annotations

import inspect

from markdown import GENERATED, attribute_docs, code, page, table

from apflow.core.model import event
from apflow.core.model.event import FINAL, LIVE, EventType

HEAD = """# Events

What happens to a tree is a stream of events: [streams, WebSockets and
webhooks](../how-to/follow-trees-from-outside.md) of a server, `apflow watch --json`, and
`TaskManager.distribute_task_tree_with_streaming()` in Python carry the same ones.
"""
NOTE = """*Stored* events are written in the transaction that changes the task, and numbered. *Live* events
may be missed. The *final* event is the last one of a run: it has `final: true`, which no other event has."""


def events_page() -> str:
    source = inspect.getsource(event)
    types = attribute_docs(source, "EventType")
    if [name for name, _, _ in types] != [each.name for each in EventType]:
        raise SystemExit("Each member of EventType needs a docstring, which the page of events shows.")
    rows = [[code(EventType[name]), kind(EventType[name]), about] for name, _, about in types]
    fields = [[code(name), code(kind), about] for name, kind, about in attribute_docs(source, "TaskEvent")]
    return page(
        HEAD,
        GENERATED,
        "## Types",
        NOTE,
        table(["type", "", "meaning"], rows),
        "## Fields",
        table(["field", "type", "meaning"], fields),
    )


def kind(event_type: EventType) -> str:
    return "live" if event_type in LIVE else "final" if event_type in FINAL else "stored"
