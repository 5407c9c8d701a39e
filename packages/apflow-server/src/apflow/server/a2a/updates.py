"""Events of a tree as updates of an A2A task. Pure.

The artifact of the root is held back until the run ends, so that it is the last one. Text that a language
model sends while it answers becomes chunks of a separate artifact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, cast

from a2a.types.a2a_pb2 import (
    Artifact,
    Part,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatusUpdateEvent,
)

from apflow.core.model.event import FINAL, EventType, TaskEvent
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task
from apflow.core.model.tree import TreeSummary
from apflow.server.a2a.approvals import event_status
from apflow.server.a2a.executions import Execution
from apflow.server.a2a.projection import (
    STATES,
    artifact_update,
    final_data,
    make_artifact,
    status_of,
    status_update,
)

Update = TaskStatusUpdateEvent | TaskArtifactUpdateEvent

ENDED: Final = frozenset({EventType.TASK_COMPLETED, EventType.TASK_FAILED, EventType.TASK_CANCELLED})
REPORTED: Final = ENDED | {
    EventType.TASK_STARTED,
    EventType.TASK_RESET,
    EventType.TASK_MARKED,
    EventType.TASK_SKIPPED,
    EventType.RETRYING,
    EventType.PROGRESS,
    EventType.APPROVAL_DECIDED,
}
CLOSING: Final = ENDED | {EventType.APPROVAL_DECIDED, EventType.TASK_RESET}  # after which no approval waits


class Updates:
    """Turns the events of one execution into updates, in order.

    Args:
        tasks: of the tree.
        is_new: whether the client knows nothing of their progress, instead of what they show.
        asked: IDs of the tasks that wait for an approval.
    """

    def __init__(
        self, execution: Execution, tasks: Sequence[Task], *, is_new: bool = False, asked: Sequence[str] = ()
    ) -> None:
        self._execution = execution
        self._names = {task.id: task.name for task in tasks}
        self._fractions = {task.id: 0.0 if is_new else task.fraction for task in tasks}
        self._texts: dict[str, str] = {}  # of models that are answering, by task ID
        self._held: TaskArtifactUpdateEvent | None = None
        self._asked = set(asked)  # as long as one waits, the task requires input

    def of(self, event: TaskEvent) -> Iterator[Update]:
        """Yield the updates that an event makes."""
        if event.type in FINAL:
            yield from self._final(event)
        elif event.type is EventType.TREE_STARTED:
            yield _working_update(self._execution, event, {"status": str(TaskStatus.IN_PROGRESS)})
        elif event.type is EventType.TASK_CREATED:
            self._fractions.setdefault(event.task_id, 0.0)
        elif event.type is EventType.APPROVAL_REQUESTED:
            self._asked.add(event.task_id)
            yield single_update(self._execution, event, len(self._fractions))
        elif event.type in REPORTED:
            yield from self._of_task(event)

    def _of_task(self, event: TaskEvent) -> Iterator[Update]:
        if event.type in ENDED:
            yield from self._outcome(event)
        elif event.type is EventType.PROGRESS:
            yield from self._chunk(event)
        fraction = 1.0 if event.type in ENDED else event.progress
        if event.type is EventType.TASK_RESET:
            fraction = 0.0
        if fraction is not None:
            self._fractions[event.task_id] = fraction
        if event.type in CLOSING:
            self._asked.discard(event.task_id)
        yield _working_update(self._execution, event, self._state(event), is_asked=bool(self._asked))

    def _state(self, event: TaskEvent) -> dict[str, Json]:
        count = len(self._fractions)
        whole = sum(self._fractions.values()) / count if count else None
        return {
            "task_id": event.task_id,
            "name": self._name(event),
            "status": str(event.status or TaskStatus.IN_PROGRESS),
            "progress": self._fractions.get(event.task_id, event.progress),
            "root_progress": whole,
            "message": event.message,
        }

    def _outcome(self, event: TaskEvent) -> Iterator[Update]:
        if self._texts.pop(event.task_id, ""):
            yield artifact_update(self._execution, _text_artifact(event.task_id, ""), append=True)
        made = _outcome_update(self._execution, event, self._name(event))
        if event.task_id == self._execution.root.id:
            self._held = made
        else:
            yield made

    def _chunk(self, event: TaskEvent) -> Iterator[Update]:
        """Yield what a model has added to its answer since the last event."""
        given: Json = event.data
        text = cast("dict[str, Json]", given).get("content") if isinstance(given, dict) else None
        if not isinstance(text, str) or not text:
            return
        known = self._texts.get(event.task_id, "")
        is_longer = text.startswith(known) and bool(known)
        added = text[len(known) :] if is_longer else text
        self._texts[event.task_id] = text
        if added:
            artifact = _text_artifact(event.task_id, added)
            yield artifact_update(self._execution, artifact, append=is_longer, last_chunk=False)

    def _final(self, event: TaskEvent) -> Iterator[Update]:
        if self._held is not None:
            yield self._held
            self._held = None
        yield _final_update(self._execution, event, len(self._fractions))

    def _name(self, event: TaskEvent) -> str:
        return self._names.get(event.task_id) or event.key


def single_update(execution: Execution, event: TaskEvent, count: int) -> Update:
    """Return the one update that a push notification of an event carries.

    Args:
        count: the number of tasks of the tree.
    """
    if event.type in FINAL:
        return _final_update(execution, event, count)
    if event.type in ENDED:
        return _outcome_update(execution, event, event.key)
    if event.type is EventType.APPROVAL_REQUESTED:
        apflow = {"type": str(event.type), "task_id": event.task_id}
        return status_update(execution, event_status(execution, event), apflow)
    return _working_update(execution, event, {"status": str(TaskStatus.IN_PROGRESS)})


def _final_update(execution: Execution, event: TaskEvent, count: int) -> TaskStatusUpdateEvent:
    status = event.status or TaskStatus.COMPLETED
    summary = TreeSummary(status, event.progress or 0.0, event.result, event.error, [])
    final = final_data(execution.root, summary, count)
    return status_update(execution, status_of(execution, STATES[status], event.timestamp, final))


def _outcome_update(execution: Execution, event: TaskEvent, name: str) -> TaskArtifactUpdateEvent:
    is_root = event.task_id == execution.root.id
    status = str(event.status)
    artifact = make_artifact(event.task_id, name, status, event.result, event.error, is_root=is_root)
    return artifact_update(execution, artifact)


def _working_update(
    execution: Execution, event: TaskEvent, apflow: dict[str, Json], *, is_asked: bool = False
) -> TaskStatusUpdateEvent:
    state = TaskState.TASK_STATE_INPUT_REQUIRED if is_asked else TaskState.TASK_STATE_WORKING
    status = status_of(execution, state, event.timestamp)
    return status_update(execution, status, {"type": str(event.type), **apflow})


def _text_artifact(task_id: str, text: str) -> Artifact:
    return Artifact(
        artifact_id=f"{task_id}:text", name="text", parts=[Part(text=text, media_type="text/plain")]
    )
