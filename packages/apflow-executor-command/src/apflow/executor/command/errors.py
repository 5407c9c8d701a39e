"""How running a command can fail.

```text
ExecutorError
└── CommandError
    ├── CommandRefusedError   the policy forbids it
    ├── CommandStartError     it cannot be started
    ├── CommandFailedError    it ended with another exit code than 0
    └── CommandTimeoutError   it took too long and was killed
```
"""

from __future__ import annotations

from apflow.core.errors import ExecutorError
from apflow.core.process.captured_output import describe_exit, describe_output


class CommandError(ExecutorError):
    """A command that did not do what it was asked to."""


class CommandRefusedError(CommandError):
    """The policy of this machine forbids the command. Nothing was started."""


class CommandStartError(CommandError):
    """The command cannot be started: there is no such program or folder, or it is not executable."""


class CommandFailedError(CommandError):
    """The command ended with another exit code than 0. Carries the ends of its output."""

    def __init__(self, shown: str, return_code: int, stdout: str, stderr: str, note: str = "") -> None:
        more = f" {note}" if note else ""
        super().__init__(f"{shown} {describe_exit(return_code)}.{more}{describe_output(stdout, stderr)}")
        self.return_code, self.stdout, self.stderr = return_code, stdout, stderr


class CommandTimeoutError(CommandError):
    """The command took too long and was killed, with its whole group. Carries the ends of its output."""

    def __init__(self, shown: str, timeout: float, stdout: str, stderr: str) -> None:
        super().__init__(f"{shown} took over {timeout:g} s and was killed.{describe_output(stdout, stderr)}")
        self.timeout, self.stdout, self.stderr = timeout, stdout, stderr
