"""What must hold of approvals: each is asked and decided once, and all that shows a decision agrees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from apflow.testing.torture.evidence import Evidence, by_task
from apflow.testing.torture.trees import is_asking

EVENTS = ("approval_requested", "approval_decided")


def each_approval_is_decided_once(evidence: Evidence) -> Iterator[str]:
    """Each approval is asked for and decided once, and an acknowledged decision stands."""
    approvals = by_task(evidence.approvals)
    acknowledged = by_task(evidence.lines("decided"))
    for task_id, asked in evidence.asked.items():
        task = evidence.tasks.get(task_id)
        if task is None or not is_asking(asked) or task["status"] != "completed":
            continue  # other checks say so
        found = approvals.get(task_id, [])
        decisions = [each["decision"] for each in found if each["decision"] is not None]
        if len(found) != 1 or len(decisions) != 1:
            yield f"{task_id} has {len(found)} approvals, of which {len(decisions)} are decided"
            continue
        yield from _contradictions(evidence, task, decisions[0], acknowledged.get(task_id, []))


def _contradictions(
    evidence: Evidence, task: dict[str, Any], decision: dict[str, Any], acknowledged: list[dict[str, Any]]
) -> Iterator[str]:
    """Return what disagrees with the decision that is stored."""
    task_id = task["id"]
    if task["result"]["decision"] != decision:
        yield f"{task_id} continued with {task['result']['decision']}; stored is {decision}"
    for line in acknowledged:
        if line["decision"] != decision:
            yield f"{task_id}: {line['decision']} was acknowledged; stored is {decision}"
    for kind in EVENTS:
        events = evidence.events_of(task_id, kind)
        if len(events) != 1:
            yield f"{task_id} has {len(events)} events {kind}"
        elif kind == "approval_decided" and events[0]["data"] != decision:
            yield f"{task_id}: the event says {events[0]['data']}; stored is {decision}"
