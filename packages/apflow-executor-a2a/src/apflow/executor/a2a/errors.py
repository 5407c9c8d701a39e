"""How a call of an agent can fail. The class name becomes the `error_type` of the task.

```text
ExecutorError
└── A2aError
    ├── A2aInputError               the inputs are not usable; nothing was sent
    ├── A2aCardError                the agent card is not available or not valid
    │   └── A2aInterfaceError       the card names no interface that may be used
    ├── A2aUnreachableError         no connection was made, or it was lost
    ├── A2aUnauthorizedError        the agent does not accept the credentials
    ├── A2aRefusedError             the agent answers a request with an error
    ├── A2aResponseError            the answer is not valid A2A
    ├── A2aTooLargeError            the answer is larger than allowed
    ├── A2aTimeoutError             the call took too long
    └── A2aEndedError               the agent's task ended, or stopped, without a result
        ├── A2aTaskFailedError
        ├── A2aRejectedError
        ├── A2aCancelledError       cancelled, but not by the task here
        ├── A2aInputRequiredError   the agent asks a question
        └── A2aAuthRequiredError    the agent asks for an authorization
```

The network policy adds `AddressRefusedError`, `HostNotFoundError` and `HostUnreachableError`.
"""

from __future__ import annotations

from apflow.core.errors import ExecutorError


class A2aError(ExecutorError):
    """A call of an agent did not lead to a result."""


class A2aInputError(A2aError):
    """The inputs are not usable. Nothing was sent."""

    def __init__(self, name: str, fault: str) -> None:
        super().__init__(f"`{name}` {fault}. Nothing was sent.")
        self.name = name


class A2aCardError(A2aError):
    """The agent card is not available or not valid."""

    def __init__(self, where: str, fault: str) -> None:
        super().__init__(f"No usable agent card at {where}: {fault}.")
        self.where = where


class A2aInterfaceError(A2aCardError):
    """The agent card names no interface that may be used."""


class A2aUnreachableError(A2aError):
    """No connection to the agent was made, or it was lost."""

    def __init__(self, where: str, cause: str) -> None:
        super().__init__(f"The agent at {where} cannot be reached, or the connection was lost: {cause}.")
        self.where = where


class A2aUnauthorizedError(A2aError):
    """The agent does not accept the credentials, or requires some."""

    def __init__(self, where: str, cause: str) -> None:
        super().__init__(
            f"The agent at {where} does not accept the credentials: {cause}. "
            "Check `auth_token` and `headers`."
        )
        self.where = where


class A2aRefusedError(A2aError):
    """The agent answers a request with an error.

    `kind` is the name of the error in A2A, such as `TaskNotFoundError`; None for an error outside A2A.
    """

    def __init__(self, where: str, fault: str, kind: str | None = None) -> None:
        super().__init__(f"The agent at {where} refuses the request: {fault}.")
        self.where, self.kind = where, kind


class A2aResponseError(A2aError):
    """The answer of the agent is not valid A2A."""

    def __init__(self, where: str, fault: str) -> None:
        super().__init__(f"The answer of the agent at {where} is not valid A2A: {fault}.")
        self.where = where


class A2aTooLargeError(A2aError):
    """The answer of the agent is larger than allowed. Answers are never truncated."""

    def __init__(self, where: str, limit: int) -> None:
        super().__init__(
            f"The answer of the agent at {where} is larger than {limit} bytes. "
            "Raise `max_output_bytes`, or request a smaller answer."
        )
        self.where, self.limit = where, limit


class A2aTimeoutError(A2aError):
    """The call took too long. The cancellation of the agent's task was requested, if it was known."""

    def __init__(self, where: str, timeout: float, task_id: str | None) -> None:
        task = f"its task {task_id!r} has not ended" if task_id else "it has not answered"
        super().__init__(f"The call of the agent at {where} took longer than {timeout:g} s: {task}.")
        self.where, self.timeout, self.task_id = where, timeout, task_id


class A2aEndedError(A2aError):
    """The task of the agent ended, or stopped, without a result.

    `said` is what the agent says about it; empty if it says nothing.
    """

    how = "has ended without a result"
    advice = ""

    def __init__(self, where: str, task_id: str | None, said: str) -> None:
        task = f"Task {task_id!r} of the agent" if task_id else "The agent"
        reason = f": {said}" if said else "."
        advice = f" {self.advice}" if self.advice else ""
        super().__init__(f"{task} at {where} {self.how}{reason}{advice}")
        self.where, self.task_id, self.said = where, task_id, said


class A2aTaskFailedError(A2aEndedError):
    """The task of the agent failed."""

    how = "has failed"


class A2aRejectedError(A2aEndedError):
    """The agent rejected the task."""

    how = "was rejected"


class A2aCancelledError(A2aEndedError):
    """The task of the agent was cancelled, but not by the task here."""

    how = "was cancelled there"


class A2aInputRequiredError(A2aEndedError):
    """The agent asks a question, and its task waits for the answer."""

    how = "requires input"
    advice = "(To answer, send a message with the `task_id` and the `context_id` of this result.)"


class A2aAuthRequiredError(A2aEndedError):
    """The agent asks for an authorization, and its task waits for it."""

    how = "requires an authorization"
    advice = "(After authorizing it, send a message with the `task_id` and the `context_id` of this result.)"
