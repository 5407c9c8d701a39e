"""What must hold after a kill, whenever it came. Pure: they read what was collected."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from apflow.core.model.event import FINAL
from apflow.core.model.status import TERMINAL
from apflow.testing.torture.history import Line
from faultkit.trees import FAN, ROOT, Array


@dataclass
class Evidence:
    """The tree that was asked for, the history of all lives, what the last one found and how it ended."""

    array: Array
    history: list[Line]
    found: dict[str, Any]
    ended: dict[str, Any]
    last: int  # the life that was not killed

    def lines(self, kind: str) -> list[Line]:
        return [line for line in self.history if line["kind"] == kind]

    def before(self, kind: str) -> list[Line]:
        """Return what happened in the lives that were killed."""
        return [line for line in self.lines(kind) if line["life"] < self.last]

    def calls(self, task_id: str) -> int:
        return self.calls_before(task_id) + self.calls_after(task_id)

    def calls_before(self, task_id: str) -> int:
        return sum(self._calls[life, task_id] for life in range(1, self.last))

    def calls_after(self, task_id: str) -> int:
        return self._calls[self.last, task_id]

    @cached_property
    def _calls(self) -> Counter[tuple[int, str]]:
        return Counter((line["life"], line["task_id"]) for line in self.lines("called"))

    def status(self, task_id: str) -> str:
        return self.ended["tasks"][task_id]["status"]

    def found_status(self, task_id: str) -> str:
        return self.found["tasks"][task_id]["status"]


def check_everything(evidence: Evidence) -> None:
    """Assert all that does not depend on the moment of the kill."""
    no_acknowledged_change_is_missing(evidence)
    what_was_called_had_been_started_on_disk(evidence)
    nothing_completed_ran_again(evidence)
    the_cancelled_stay_cancelled(evidence)
    hooks_ran_as_often_as_promised(evidence)
    the_tree_ended(evidence)
    events_are_numbered_without_gaps(evidence)


def no_acknowledged_change_is_missing(evidence: Evidence) -> None:
    if evidence.before("created"):
        assert evidence.found["tasks"].keys() >= {each["id"] for each in evidence.array}
    stored = {event["sequence"]: (event["type"], event["task_id"]) for event in evidence.found["events"]}
    for line in evidence.before("told"):
        assert stored.get(line["sequence"]) == (line["type"], line["task_id"]), line
        status = evidence.found_status(line["task_id"])
        if line["type"] in ("task_completed", "task_failed", "task_cancelled"):
            assert status == line["type"].removeprefix("task_"), line
    for line in evidence.before("cancel_answered"):
        if line["status"] == "cancelled":
            assert evidence.found_status(line["task_id"]) == "cancelled"


def what_was_called_had_been_started_on_disk(evidence: Evidence) -> None:
    needs = {
        each["id"]: [need["id"] for need in each.get("dependencies", []) if need["required"]]
        for each in evidence.array
    }
    for line in evidence.before("called"):
        # An earlier life's start may have been taken back by a recovery, itself killed since.
        is_latest = line["life"] == evidence.last - 1
        assert evidence.found_status(line["task_id"]) != "pending" or not is_latest, line
        for need in needs.get(line["task_id"], []):  # an element is not in the array
            assert evidence.found_status(need) == "completed", line


def nothing_completed_ran_again(evidence: Evidence) -> None:
    for task_id, found in evidence.found["tasks"].items():
        if found["status"] == "completed":
            ended = evidence.ended["tasks"][task_id]
            assert evidence.calls_after(task_id) == 0, f"{task_id} had completed and ran again"
            kept = ("status", "result", "completed_at", "attempts", "generation")
            assert [ended[name] for name in kept] == [found[name] for name in kept]
    once = [each["id"] for each in evidence.array if (each.get("policy") or {}).get("effect") == "once"]
    for task_id in once:
        assert evidence.calls(task_id) <= 1, f"{task_id} may run only once"


def the_cancelled_stay_cancelled(evidence: Evidence) -> None:
    for task_id, found in evidence.found["tasks"].items():
        is_requested = found["cancel_requested_at"] is not None and found["status"] != "completed"
        if found["status"] == "cancelled" or is_requested:
            assert evidence.status(task_id) == "cancelled"
            assert evidence.calls_after(task_id) == 0, f"{task_id} was cancelled and ran again"


def hooks_ran_as_often_as_promised(evidence: Evidence) -> None:
    hooked = Counter(line["task_id"] for line in evidence.lines("hooked"))
    assert all(times == 1 for times in hooked.values()), hooked.most_common(3)
    assert evidence.lines("tree_hooked"), "the tree's end was never told to its hook"


def each_element_exists_once(evidence: Evidence, count: int) -> None:
    """Check that the elements of the list were all created or not at all, and collected in order."""
    found = elements_of(evidence.found)
    ended = elements_of(evidence.ended)
    assert len(found) in (0, count), f"{len(found)} of {count} elements were created"
    assert [each["key"] for each in ended] == [f"{FAN}[{number}]" for number in range(count)]
    assert {each["id"] for each in found} <= {each["id"] for each in ended}
    assert evidence.ended["tasks"][FAN]["result"] == [{"of": each["id"]} for each in ended]
    assert [each["inputs"] for each in ended] == [{"number": number} for number in range(count)]


def elements_of(dump: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the elements of the list, in order of position."""
    return [task for task in dump["tasks"].values() if task["parent_id"] == FAN]


def the_tree_ended(evidence: Evidence) -> None:
    tasks = evidence.ended["tasks"]
    assert [task_id for task_id, task in tasks.items() if task["status"] not in TERMINAL] == []
    root = tasks[ROOT]
    assert root["run_requested_at"] is None
    assert root["run_ended_at"] is not None
    interrupted = [task for task in tasks.values() if task["status"] == "failed"]
    for task in interrupted:
        assert task["policy"].get("effect") == "once", task["error"]
        assert task["result"]["error_type"] == "Interrupted"
    expected = "cancelled" if any(task["status"] == "cancelled" for task in tasks.values()) else "completed"
    assert root["status"] == expected


def events_are_numbered_without_gaps(evidence: Evidence) -> None:
    events = evidence.ended["events"]
    assert [event["sequence"] for event in events] == list(range(1, len(events) + 1))
    finals = [event for event in events if event["type"] in FINAL]
    assert finals == [events[-1]]
    found = evidence.found["events"]
    assert events[: len(found)] == found
