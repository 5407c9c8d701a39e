"""Trees as tasks of A2A. Pure.

The tasks of a tree are the only source: what A2A shows is computed from them, and nothing is stored twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from a2a.types.a2a_pb2 import (
    Artifact,
    Message,
    Role,
    TaskArtifactUpdateEvent,
    TaskState,
    TaskStatus,
    TaskStatusUpdateEvent,
)
from a2a.types.a2a_pb2 import Task as A2ATask
from google.protobuf.timestamp_pb2 import Timestamp

from apflow.core.model import status as model
from apflow.core.model.task import Json, Task
from apflow.core.model.tree import TreeSummary, tree_status
from apflow.core.planning.run_start import has_unended_run
from apflow.server.a2a.executions import Execution
from apflow.server.a2a.values import data_part, to_struct

PROTOCOL: Final = "a2a"
RESULT: Final = "result"  # the name of the artifact of the root
MAX_KEPT_RESULT: Final = 256 << 10  # characters of a result that the record of an earlier execution keeps

STATES: Final = {
    model.TaskStatus.PENDING: TaskState.TASK_STATE_SUBMITTED,
    model.TaskStatus.IN_PROGRESS: TaskState.TASK_STATE_WORKING,
    model.TaskStatus.COMPLETED: TaskState.TASK_STATE_COMPLETED,
    model.TaskStatus.FAILED: TaskState.TASK_STATE_FAILED,
    model.TaskStatus.CANCELLED: TaskState.TASK_STATE_CANCELED,
    model.TaskStatus.SKIPPED: TaskState.TASK_STATE_COMPLETED,  # A2A has no such state
}
TERMINAL: Final = frozenset({
    TaskState.TASK_STATE_COMPLETED,
    TaskState.TASK_STATE_FAILED,
    TaskState.TASK_STATE_CANCELED,
    TaskState.TASK_STATE_REJECTED,
})  # fmt: skip


def state_of(root: Task, status: model.TaskStatus) -> TaskState:
    """Return the state of a tree whose tasks add up to a status."""
    if model.TaskStatus.is_terminal(status) and has_unended_run(root):
        return TaskState.TASK_STATE_WORKING  # the run is about to end, or to begin again
    return STATES[status]


def time_of(root: Task) -> datetime | None:
    """Return when the state of a tree last changed."""
    return root.updated_at or root.created_at


def timestamp(moment: datetime | None) -> Timestamp | None:
    """Return a moment as protobuf has it."""
    if moment is None:
        return None
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def final_data(root: Task, summary: TreeSummary, count: int) -> dict[str, Json]:
    """Return the data of the final message of an execution."""
    return {
        "protocol": PROTOCOL,
        "status": str(summary.status),
        "progress": summary.progress,
        "root_task_id": root.id,
        "task_count": count,
        "result": summary.result,
        "error": summary.error,
        "metadata": {"original_task_id": root.original_task_id},
    }


def agent_message(execution: Execution, data: dict[str, Json], *, message_id: str) -> Message:
    """Return a message of the agent with one data part."""
    return Message(
        message_id=message_id,
        role=Role.ROLE_AGENT,
        task_id=execution.task_id,
        context_id=execution.context_id,
        parts=[data_part(data)],
    )


def status_of(
    execution: Execution,
    state: TaskState,
    moment: datetime | None,
    final: dict[str, Json] | None = None,
) -> TaskStatus:
    """Return the status of an execution, with its final message if it has ended."""
    message = None
    if final is not None:
        message = agent_message(execution, final, message_id=f"{execution.task_id}:final")
    return TaskStatus(state=state, message=message, timestamp=timestamp(moment))


def artifact_of(task: Task, root_id: str) -> Artifact:
    """Return the artifact of a task that has ended."""
    is_root = task.id == root_id
    return make_artifact(task.id, task.name, str(task.status), task.result, task.error, is_root=is_root)


def make_artifact(
    task_id: str, name: str, status: str, result: Json, error: str | None, *, is_root: bool
) -> Artifact:
    """Return an artifact with the outcome of one task."""
    data: dict[str, Json] = {
        "task_id": task_id, "name": name, "status": status, "result": result, "error": error,
    }  # fmt: skip
    return Artifact(artifact_id=task_id, name=RESULT if is_root else name, parts=[data_part(data)])


def artifacts_of(tasks: Sequence[Task], root_id: str) -> list[Artifact]:
    """Return the artifacts of the tasks that have ended, that of the root last."""
    ended = [each for each in tasks if model.TaskStatus.is_terminal(each.status)]
    ordered = sorted(ended, key=lambda each: each.id == root_id)
    return [artifact_of(each, root_id) for each in ordered]


def metadata_of(root: Task, summary: TreeSummary) -> dict[str, Json]:
    """Return the metadata of an A2A task."""
    shown: dict[str, Json] = {"root_task_id": root.id, "status": str(summary.status)}
    shown |= {"progress": summary.progress, "original_task_id": root.original_task_id}
    return {"apflow": shown}


def task_of(execution: Execution, tasks: Sequence[Task], *, has_artifacts: bool = True) -> A2ATask:
    """Return the A2A task of the latest execution of a tree.

    Args:
        tasks: of the tree.
        has_artifacts: whether to include the artifacts.
    """
    root = next(each for each in tasks if each.id == execution.root.id)
    summary = tree_status(tasks, root.id)
    state = state_of(root, summary.status)
    is_over = state in TERMINAL
    return A2ATask(
        id=execution.task_id,
        context_id=execution.context_id,
        status=status_of(
            execution,
            state,
            time_of(root),
            final_data(root, summary, len(tasks)) if is_over else None,
        ),
        artifacts=artifacts_of(tasks, root.id) if has_artifacts else (),
        metadata=to_struct(metadata_of(root, summary)),
    )


def submitted_task(execution: Execution) -> A2ATask:
    """Return the A2A task of an execution as it was submitted."""
    root = execution.root
    shown: dict[str, Json] = {"root_task_id": root.id, "original_task_id": root.original_task_id}
    return A2ATask(
        id=execution.task_id,
        context_id=execution.context_id,
        status=status_of(execution, TaskState.TASK_STATE_SUBMITTED, root.created_at),
        metadata=to_struct({"apflow": shown}),
    )


def kept_end(root: Task, tasks: Sequence[Task]) -> dict[str, Json]:
    """Return what the record keeps of the end of an execution, before the tree is executed again."""
    summary = tree_status(tasks, root.id)
    final = final_data(root, summary, len(tasks))
    if len(repr(final["result"])) > MAX_KEPT_RESULT:
        final["result"] = None
    moment = time_of(root)
    return {"name": root.name, "at": moment.isoformat() if moment else None, "final": final}


def earlier_task(execution: Execution, *, has_artifacts: bool = True) -> A2ATask:
    """Return the A2A task of an execution that a later one followed, from its record."""
    end = execution.run.end or {}
    final: dict[str, Json] = end["final"]
    outcome = make_artifact(
        execution.root.id, end["name"], final["status"], final["result"], final["error"], is_root=True
    )
    at = datetime.fromisoformat(end["at"]) if end["at"] else None
    return A2ATask(
        id=execution.task_id,
        context_id=execution.context_id,
        status=status_of(execution, STATES[model.TaskStatus(final["status"])], at, final),
        artifacts=[outcome] if has_artifacts else (),
    )


def status_update(
    execution: Execution, status: TaskStatus, apflow: dict[str, Json] | None = None
) -> TaskStatusUpdateEvent:
    """Return an update of the status."""
    return TaskStatusUpdateEvent(
        task_id=execution.task_id,
        context_id=execution.context_id,
        status=status,
        metadata=None if apflow is None else to_struct({"apflow": apflow}),
    )


def artifact_update(
    execution: Execution, artifact: Artifact, *, append: bool = False, last_chunk: bool = True
) -> TaskArtifactUpdateEvent:
    """Return an update with an artifact, or with a chunk of one."""
    return TaskArtifactUpdateEvent(
        task_id=execution.task_id,
        context_id=execution.context_id,
        artifact=artifact,
        append=append,
        last_chunk=last_chunk,
    )
