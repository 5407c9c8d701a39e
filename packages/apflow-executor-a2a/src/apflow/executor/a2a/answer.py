"""What an agent has answered so far. Pure.

An agent answers with a message, or with a task, which it changes by updates: of its status, and of its
artifacts, which may come in pieces.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from a2a.types.a2a_pb2 import Artifact, Message, Part, StreamResponse, Task, TaskState, TaskStatus
from google.protobuf.json_format import MessageToDict

from apflow.core.model.task import Json
from apflow.core.payload.json_value import Place, rewrite
from apflow.executor.a2a.errors import A2aResponseError, A2aTooLargeError

PREFIX: Final = "TASK_STATE_"
_ENDED: Final = frozenset({
    TaskState.TASK_STATE_COMPLETED, TaskState.TASK_STATE_FAILED, TaskState.TASK_STATE_CANCELED,
    TaskState.TASK_STATE_REJECTED,
})  # fmt: skip
_WAITING: Final = frozenset({TaskState.TASK_STATE_INPUT_REQUIRED, TaskState.TASK_STATE_AUTH_REQUIRED})


@dataclass(slots=True)
class CollectedArtifact:
    """An artifact, put together from its pieces."""

    artifact_id: str
    name: str = ""
    description: str = ""
    metadata: dict[str, Json] = field(default_factory=dict[str, Json])
    # Pieces of one string are a list, so that adding one does not copy those before it.
    parts: list[Part | list[str]] = field(default_factory=list[Part | list[str]])

    def add(self, artifact: Artifact) -> None:
        """Add a piece."""
        self.name = artifact.name or self.name
        self.description = artifact.description or self.description
        self.metadata |= as_json(artifact.metadata)
        for part in artifact.parts:
            if not _is_plain_text(part):
                self.parts.append(part)
            elif self.parts and isinstance(self.parts[-1], list):
                self.parts[-1].append(part.text)
            else:
                self.parts.append([part.text])

    @property
    def text(self) -> str:
        """The strings of all parts, each on a new line."""
        return "\n".join(part["text"] for part in self.parts_as_json() if "text" in part)

    def parts_as_json(self) -> list[dict[str, Json]]:
        """Return the parts in the form that inputs have."""
        return [
            {"text": "".join(part)} if isinstance(part, list) else part_as_json(part) for part in self.parts
        ]


@dataclass
class Answer:
    """The answer of one agent, of at most `limit` bytes."""

    where: str
    limit: int
    task_id: str | None = None
    context_id: str | None = None
    state: int = TaskState.TASK_STATE_UNSPECIFIED
    message: Message | None = None  # the answer without a task, or the message of the last status
    artifacts: dict[str, CollectedArtifact] = field(default_factory=dict[str, CollectedArtifact])
    size: int = 0  # bytes of the artifacts
    # The state is that from before the message: a stream may begin with the task as it was.
    is_stale: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether the agent has answered nothing yet."""
        return self.task_id is None and self.message is None

    @property
    def is_over(self) -> bool:
        """Whether nothing follows: the task has ended, or waits for the user, or there is no task."""
        return not (self.is_empty or self.is_stale) and (self.task_id is None or self.is_stopped)

    @property
    def is_stopped(self) -> bool:
        """Whether the task has ended, or waits for the user."""
        return self.state in _ENDED | _WAITING

    @property
    def is_running(self) -> bool:
        """Whether the agent has a task that has neither ended nor waits for the user."""
        return self.task_id is not None and not self.is_over

    @property
    def state_name(self) -> str:
        """The state of the task in lower case, such as "input-required"."""
        if self.task_id is None:
            return "completed" if self.message is not None else "unknown"
        if self.state not in TaskState.values():
            return "unknown"
        return TaskState.Name(TaskState.ValueType(self.state)).removeprefix(PREFIX).lower().replace("_", "-")

    def apply(self, update: StreamResponse) -> None:
        """Apply an update.

        Raises:
            A2aResponseError: it is empty, or about another task.
            A2aTooLargeError: with it, the answer is too large.
        """
        match update.WhichOneof("payload"):
            case "task":
                self.apply_task(update.task)
            case "message":
                self._note_message(update.message)
            case "status_update":
                self._identify(update.status_update.task_id, update.status_update.context_id)
                self._apply_status(update.status_update.status)
            case "artifact_update":
                change = update.artifact_update
                self._identify(change.task_id, change.context_id)
                self._add_artifact(change.artifact, is_piece=change.append)
            case _:
                raise A2aResponseError(self.where, "it contains neither a task nor a message nor an update")

    def apply_task(self, task: Task) -> None:
        """Replace everything that is known of the task."""
        self._identify(task.id, task.context_id)
        self.artifacts, self.size = {}, 0
        for artifact in task.artifacts:
            self._add_artifact(artifact, is_piece=artifact.artifact_id in self.artifacts)
        self._apply_status(task.status)

    def _identify(self, task_id: str, context_id: str) -> None:
        if not task_id:
            raise A2aResponseError(self.where, "a task or an update of one has no task id")
        if self.task_id not in (None, task_id):
            raise A2aResponseError(
                self.where, f"it is about task {task_id[:100]!r} instead of task {str(self.task_id)[:100]!r}"
            )
        self.task_id = task_id
        self.context_id = context_id or self.context_id

    def _apply_status(self, status: TaskStatus) -> None:
        self.state = status.state
        if status.HasField("message"):
            self._note_message(status.message)
        else:
            self.message = None

    def _note_message(self, message: Message) -> None:
        if message.ByteSize() > self.limit:
            raise A2aTooLargeError(self.where, self.limit)
        self.message = message
        self.context_id = message.context_id or self.context_id

    def _add_artifact(self, artifact: Artifact, *, is_piece: bool) -> None:
        known = self.artifacts.get(artifact.artifact_id)
        if known is None or not is_piece:
            if known is not None:
                self.size -= sum(map(_size_of, known.parts))
            known = self.artifacts[artifact.artifact_id] = CollectedArtifact(artifact.artifact_id)
        self.size += artifact.ByteSize()
        if self.size > self.limit:
            raise A2aTooLargeError(self.where, self.limit)
        known.add(artifact)


def text_of(message: Message | None) -> str:
    """Return the strings of a message, each on a new line."""
    return "" if message is None else "\n".join(part.text for part in message.parts if part.HasField("text"))


def part_as_json(part: Part) -> dict[str, Json]:
    """Return a part in the form that inputs have."""
    return as_json(part)


def as_json(message: Any) -> dict[str, Json]:
    """Return a message of protobuf as JSON. Integers, which A2A carries as doubles, are integers again."""
    shown: dict[str, Json] = MessageToDict(message, preserving_proto_field_name=True)
    restored: dict[str, Json] = rewrite(shown, _restored)
    return restored


def parts_as_json(parts: Iterable[Part]) -> list[dict[str, Json]]:
    """Return parts in the form that inputs have."""
    return [part_as_json(part) for part in parts]


def _restored(node: Json, _: Place | None) -> Json:
    return int(node) if isinstance(node, float) and node.is_integer() and abs(node) < 2**53 else node


def _is_plain_text(part: Part) -> bool:
    return part.HasField("text") and not (part.filename or part.media_type or part.HasField("metadata"))


def _size_of(part: Part | list[str]) -> int:
    return sum(len(text.encode()) for text in part) if isinstance(part, list) else part.ByteSize()
