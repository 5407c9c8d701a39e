"""What the events of a tree become for a client of A2A."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from a2a.types import TaskArtifactUpdateEvent, TaskState, TaskStatusUpdateEvent
from a2a_clients import data_of

from apflow.core.model.event import EventType, TaskEvent
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Task
from apflow.server.a2a.executions import Execution, Executions, Run
from apflow.server.a2a.updates import Update, Updates
from apflow.server.a2a.values import read_value

ROOT = Task(id="r", name="root", root_id="r")
CHILD = Task(id="c", name="child", root_id="r", parent_id="r")
EXECUTION = Execution(Executions("r", "talk"), Run(1), ROOT)


def event(kind: EventType, task_id: str = "c", **more: Any) -> TaskEvent:
    return TaskEvent(
        type=kind, task_id=task_id, root_task_id="r", timestamp=datetime(2026, 1, 1, tzinfo=UTC), **more
    )


def turned(*events: TaskEvent) -> list[Update]:
    updates = Updates(EXECUTION, [ROOT, CHILD])
    return [update for each in events for update in updates.of(each)]


def artifacts(found: list[Update]) -> list[TaskArtifactUpdateEvent]:
    return [each for each in found if isinstance(each, TaskArtifactUpdateEvent)]


def test_the_artifact_of_the_root_is_the_last_one_and_called_result():
    found = turned(
        event(EventType.TASK_COMPLETED, "r", status=TaskStatus.COMPLETED, result=1),
        event(EventType.TASK_COMPLETED, status=TaskStatus.COMPLETED, result=2),
        event(EventType.TREE_COMPLETED, "r", status=TaskStatus.COMPLETED, result=1, progress=1.0),
    )
    assert [(each.artifact.artifact_id, each.artifact.name) for each in artifacts(found)] == [
        ("c", "child"), ("r", "result"),
    ]  # fmt: skip
    last = found[-1]
    assert isinstance(last, TaskStatusUpdateEvent)
    assert last.status.state == TaskState.TASK_STATE_COMPLETED
    assert data_of(last.status.message)["task_count"] == 2


def test_progress_names_the_task_and_the_whole():
    (found,) = turned(event(EventType.PROGRESS, progress=0.5, message="half"))
    assert isinstance(found, TaskStatusUpdateEvent)
    assert found.status.state == TaskState.TASK_STATE_WORKING
    assert not found.status.HasField("message")
    said = read_value(found.metadata)["apflow"]
    assert (said["task_id"], said["name"], said["progress"], said["root_progress"]) == (
        "c",
        "child",
        0.5,
        0.25,
    )


def test_the_text_of_a_model_comes_in_chunks():
    found = turned(
        event(EventType.PROGRESS, progress=0.1, data={"content": "Once"}),
        event(EventType.PROGRESS, progress=0.2, data={"content": "Once there"}),
        event(EventType.PROGRESS, progress=0.2, data={"content": "Once there"}),
        event(EventType.TASK_COMPLETED, status=TaskStatus.COMPLETED, result="Once there was"),
    )
    chunks = [each for each in artifacts(found) if each.artifact.artifact_id == "c:text"]
    assert [(each.artifact.parts[0].text, each.append, each.last_chunk) for each in chunks] == [
        ("Once", False, False), (" there", True, False), ("", True, True),
    ]  # fmt: skip


def test_text_of_which_the_beginning_is_gone_starts_again():
    found = turned(
        event(EventType.PROGRESS, progress=0.1, data={"content": "abc"}),
        event(EventType.PROGRESS, progress=0.2, data={"content": "bcd"}),
    )
    assert [(each.artifact.parts[0].text, each.append) for each in artifacts(found)] == [
        ("abc", False), ("bcd", False),
    ]  # fmt: skip


def test_what_is_logged_is_not_sent():
    assert turned(event(EventType.LOG, message="a line"), event(EventType.TASK_CREATED)) == []
