"""What must hold when faults have stopped and all trees were waited for. Pure: reads what was collected."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, cast

from apflow.core.model.event import FINAL
from apflow.core.model.status import TERMINAL
from apflow.testing.torture.approval_checks import each_approval_is_decided_once
from apflow.testing.torture.evidence import (
    AROUND,
    CRASHES,
    DISTURBANCES,
    ENDS,
    HELD_UP,
    Evidence,
    processes_of,
)
from apflow.testing.torture.history import Line
from apflow.testing.torture.list_checks import each_item_has_one_element, what_ends_before
from apflow.testing.torture.trees import fails_always, is_once, may_fail, needs_of

Check = Callable[[Evidence], Iterator[str]]


def faults(evidence: Evidence) -> dict[str, list[str]]:
    """Return what does not hold, by the name of the check; nothing where all is well."""
    found = {check.__name__: list(check(evidence)) for check in CHECKS}
    return {name: each for name, each in found.items() if each}


def nothing_acknowledged_is_lost(evidence: Evidence) -> Iterator[str]:
    """Each task of each acknowledged tree is stored."""
    for key, root_id in evidence.acknowledged.items():
        missing = [task["id"] for task in evidence.arrays[key] if task["id"] not in evidence.ids]
        if missing or root_id not in evidence.tasks:
            yield f"{key} was acknowledged; {len(missing)} of its tasks are not there"


def nothing_is_submitted_twice(evidence: Evidence) -> Iterator[str]:
    """A tree that is submitted again with the same key is stored once."""
    roots = [task for task in evidence.tasks.values() if task["id"] == task["root_id"]]
    for name, count in Counter(root["name"] for root in roots).items():
        if count > 1:
            yield f"{name} was submitted once, and is there {count} times"


def everything_ends(evidence: Evidence) -> Iterator[str]:
    """Each task of each acknowledged tree has ended, and each run has one last event."""
    for task in evidence.tasks.values():
        if task["root_id"] not in evidence.acknowledged.values():
            continue  # its submitter got no answer
        if task["status"] not in TERMINAL:
            yield f"{task['id']} is {task['status']}"
        if task["id"] == task["root_id"]:
            if task["run_ended_at"] is None or task["run_requested_at"] is not None:
                yield f"the run of {task['id']} has not ended"
            finals = [event for event in evidence.events[task["id"]] if event["type"] in FINAL]
            if len(finals) != 1 or evidence.events[task["id"]][-1] != finals[0]:
                yield f"{task['id']} has {len(finals)} final events, or one that is not the last"


def what_can_complete_completes(evidence: Evidence) -> Iterator[str]:
    """Each task that does not fail by design has completed, unless a fault ended a task that runs once."""
    for task_id, asked in evidence.asked.items():
        task = evidence.tasks.get(task_id)
        if task is None or "schemas" not in asked or task["status"] == "completed":
            continue
        result: dict[str, Any] = task["result"] or {}
        error_type = result.get("error_type")
        if not may_fail(asked):
            yield f"{task_id} is {task['status']}: {task['error']}"
        elif fails_always(asked) and error_type != "RuntimeError":
            yield f"{task_id} failed otherwise: {task['error']}"
        elif is_once(asked) and not evidence.is_disturbed(
            processes_of(evidence, task), 0, 1e12, *DISTURBANCES
        ):
            yield f"{task_id} failed without a cause: {task['error']}"


def each_ends_once(evidence: Evidence) -> Iterator[str]:
    """Each task has one event of its end, which agrees with its row."""
    for task_id, task in evidence.tasks.items():
        ends = evidence.events_of(task_id, *ENDS)
        if task["status"] in TERMINAL and len(ends) != 1:
            yield f"{task_id} has {len(ends)} ends: {[event['type'] for event in ends]}"
        elif ends and (ENDS[ends[0]["type"]] != task["status"] or ends[0]["result"] != task["result"]):
            yield f"{task_id} is {task['status']} with {task['result']}; its event says {ends[0]}"


def what_is_stored_is_its_owners(evidence: Evidence) -> Iterator[str]:
    """A late writer changes nothing: a result is of the process that the task belonged to at its end."""
    for task_id, task in evidence.tasks.items():
        if not isinstance(task["result"], dict):
            continue
        result = cast("dict[str, Any]", task["result"])
        if result.get("owner", task["owner"]) != task["owner"]:
            yield f"{task_id} was started by {task['owner']} and completed by {result['owner']}"


def bodies_start_after_what_they_need(evidence: Evidence) -> Iterator[str]:
    """No task starts before the tasks that it needs have completed."""
    succeeded: set[str] = set()
    for line in evidence.lines("started", "ended"):
        if line["kind"] == "ended":
            succeeded |= set() if line["fails"] else {line["task_id"]}
            continue
        for need in needs_of(evidence.asked.get(line["task_id"], {})):
            if need["required"] and not succeeded.issuperset(what_ends_before(evidence, need["id"])):
                yield f"{line['task_id']} started before {need['id']} had completed"


def starts_follow_stored_ends(evidence: Evidence) -> Iterator[str]:
    """No start is stored before the end of what the task needs."""
    for task_id, asked in evidence.asked.items():
        begun = evidence.events_of(task_id, "task_started")
        for need in needs_of(asked) if begun else []:
            ends = evidence.events_of(need["id"], *ENDS)
            if not ends or ends[0]["sequence"] > begun[0]["sequence"]:
                yield f"{task_id} was started before the end of {need['id']} was stored"


def bodies_start_after_their_stored_start(evidence: Evidence) -> Iterator[str]:
    """No code runs before the start of its attempt is stored."""
    for task_id, lines in evidence.starts.items():
        stored = evidence.events_of(task_id, "task_started", "retrying")
        if len(lines) > len(stored):
            yield f"{task_id} started {len(lines)} times, of which {len(stored)} are stored"


def once_means_at_most_once(evidence: Evidence) -> Iterator[str]:
    """A task that may run once starts at most once."""
    for task_id, lines in evidence.starts.items():
        often = Counter(line["generation"] for line in lines).most_common(1)[0][1]
        if task_id in evidence.asked and is_once(evidence.asked[task_id]) and often > 1:
            yield f"{task_id} may run once and ran {often} times"


def nothing_living_is_robbed(evidence: Evidence) -> Iterator[str]:
    """A body starts again by another attempt, or because something befell a process that ran it."""
    for task_id, lines in evidence.starts.items():
        for before, after in pairwise(lines):
            pids = {before["life"], after["life"]}
            is_retry = after["attempt"] > before["attempt"]
            if not is_retry and not evidence.is_disturbed(pids, before["time"], after["time"], *DISTURBANCES):
                yield f"{task_id} was taken from {before['life']} by {after['life']}; both were well"


def work_that_was_lost_is_ended(evidence: Evidence) -> Iterator[str]:
    """A process that was frozen ends its bodies in trees that others have taken meanwhile."""
    for thaw in evidence.lines("thawed"):
        for line in evidence.lines("ended"):
            if line["life"] != thaw["pid"] or line["time"] < thaw["time"] + evidence.lease:
                continue
            mine = [each for each in evidence.starts[line["task_id"]] if each["life"] == thaw["pid"]]
            others = [each for each in evidence.starts[line["task_id"]] if each["life"] != thaw["pid"]]
            if mine[-1]["time"] < thaw["time"] and any(
                mine[-1]["time"] < each["time"] < thaw["time"] for each in others
            ):
                yield f"{thaw['pid']} continued {line['task_id']} after others had taken it"


def a_drain_interrupts_nothing(evidence: Evidence) -> Iterator[str]:
    """A worker that is asked to end interrupts no task for good."""
    for task_id, task in evidence.tasks.items():
        if task["interruptions"] and not evidence.lines(*CRASHES, HELD_UP):
            yield f"{task_id} counts {task['interruptions']} interruptions; no process died"


def numbers_have_no_gaps(evidence: Evidence) -> Iterator[str]:
    """The events of each tree are numbered without gaps."""
    for root_id, events in evidence.events.items():
        numbers = [event["sequence"] for event in events]
        if numbers != list(range(1, len(events) + 1)):
            yield f"{root_id}: {_first_gap(numbers)}"
        if root_id in evidence.tasks and evidence.tasks[root_id]["last_event"] != len(events):
            yield f"{root_id} counts {evidence.tasks[root_id]['last_event']} events, and has {len(events)}"


def what_is_told_is_stored(evidence: Evidence) -> Iterator[str]:
    """Each event that a subscriber received is stored."""
    for line in evidence.lines("told"):
        events = evidence.events.get(line["root_id"], list[dict[str, Any]]())
        at: int = line["sequence"] - 1
        missing: dict[str, Any] = {"type": None, "task_id": None}
        found = events[at] if 0 <= at < len(events) else missing
        if (found["type"], found["task_id"]) != (line["type"], line["task_id"]):
            stored = f"stored is {found['type']} of {found['task_id']}"
            yield f"{line['task_id']}: {line['type']} was published as {line['sequence']}; {stored}"


def work_goes_on_after_a_kill(evidence: Evidence) -> Iterator[str]:
    """Other workers continue the trees of a killed worker soon after its lease has ended."""
    for root_id, seconds in restarts(evidence):
        if seconds > evidence.lease + evidence.restart:
            yield f"{root_id} continued {seconds:.2f} s after its worker was killed"


def nothing_is_left(evidence: Evidence) -> Iterator[str]:
    """No process, connection or temporary file outlives the campaign."""
    yield from evidence.left


CHECKS: tuple[Check, ...] = (
    nothing_acknowledged_is_lost,
    nothing_is_submitted_twice,
    everything_ends,
    what_can_complete_completes,
    each_ends_once,
    what_is_stored_is_its_owners,
    bodies_start_after_what_they_need,
    starts_follow_stored_ends,
    bodies_start_after_their_stored_start,
    once_means_at_most_once,
    each_item_has_one_element,
    each_approval_is_decided_once,
    nothing_living_is_robbed,
    work_that_was_lost_is_ended,
    a_drain_interrupts_nothing,
    numbers_have_no_gaps,
    what_is_told_is_stored,
    work_goes_on_after_a_kill,
    nothing_is_left,
)


def restarts(evidence: Evidence) -> list[tuple[str, float]]:
    """Return how long the trees of killed workers made no progress, without other disturbances."""
    found: list[tuple[str, float]] = []
    trees: dict[str, list[Line]] = defaultdict(list)
    for line in evidence.lines("started"):
        trees[line["root_id"]].append(line)
    for kill in evidence.lines("killed"):
        for root_id, lines in trees.items():
            before = [line for line in lines if line["time"] <= kill["time"]]
            after = [line for line in lines if line["time"] > kill["time"] and line["life"] != kill["pid"]]
            if before and before[-1]["life"] == kill["pid"] and after and _is_quiet(evidence, kill, after[0]):
                found.append((root_id, after[0]["time"] - kill["time"]))
    return found


def _is_quiet(evidence: Evidence, kill: Line, after: Line) -> bool:
    """Return whether no other disturbance explains the time from a kill until work continued."""
    begin, end = kill["time"], after["time"]
    lasting = evidence.lines("server", "frozen", "thawed")
    return not any(begin - AROUND / 3 < line["time"] < end for line in lasting) and not any(
        begin < line["time"] < end for line in evidence.lines(*DISTURBANCES)
    )


def _first_gap(numbers: Sequence[int]) -> str:
    at = next(at for at, number in enumerate(numbers) if number != at + 1)
    return f"after event {at} comes {numbers[at]}"
