"""How running a command on another machine can fail.

```text
ExecutorError
├── AddressRefusedError, HostNotFoundError, HostUnreachableError   of the core: before there is a connection
└── SshError
    ├── SshInputError            a credential or a file that cannot be used; nothing was connected
    ├── SshHostKeyError          the host is not who it should be
    │   ├── SshHostKeyUnknownError   its key is not in known_hosts
    │   └── SshHostKeyChangedError   it has another key than the known one, or a revoked one
    ├── SshLoginError            it refuses the user or the credential
    ├── SshShellError            it runs no commands, or has no POSIX shell to run them
    ├── SshConnectionError       it speaks no SSH, or the connection ended too early
    │   └── SshDroppedError          before the server said a word
    ├── SshTimeoutError          it took too long
    └── SshCommandFailedError    the command ended with another exit code than 0
```
"""

from __future__ import annotations

from collections.abc import Sequence

from apflow.core.errors import ExecutorError
from apflow.core.process.captured_output import describe_exit, describe_output


class SshError(ExecutorError):
    """A command on another machine that did not do what it was asked to."""


class SshInputError(SshError):
    """What the task gave cannot be used: a credential, a file, the command. Nothing was connected."""


class SshHostKeyError(SshError):
    """The host does not prove to be the one that is meant. No credential was sent."""

    def __init__(self, message: str, host: str, key_type: str, fingerprint: str) -> None:
        super().__init__(message)
        self.host, self.key_type, self.fingerprint = host, key_type, fingerprint


class SshHostKeyUnknownError(SshHostKeyError):
    """The host key is not known. `line` is the known_hosts line that would make it known."""

    def __init__(self, host: str, key_type: str, fingerprint: str, where: str, line: str) -> None:
        super().__init__(
            f"The host key of {host} is not known in {where}: {key_type} {fingerprint}. Compare that with "
            f"the host's own (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub, on it). If it is the same, add "
            f'this line to known_hosts, or set host_key_policy to "accept-new" once:\n{line}',
            host,
            key_type,
            fingerprint,
        )
        self.line = line


class SshHostKeyChangedError(SshHostKeyError):
    """The host key differs from the known one: another host may be impersonating it."""

    def __init__(self, host: str, key_type: str, fingerprint: str, where: str, known: Sequence[str]) -> None:
        expected = f"expected was {', '.join(known)}" if known else "that key is marked as revoked"
        super().__init__(
            f"The host key of {host} is not the one in {where}: it shows {key_type} {fingerprint}; "
            f"{expected}. Another host may be impersonating it. If its key was changed on purpose, remove "
            f"the old line from known_hosts. No policy accepts a changed key.",
            host,
            key_type,
            fingerprint,
        )
        self.known = list(known)


class SshLoginError(SshError):
    """The host refuses the user or the credential."""

    def __init__(self, username: str, host: str, tried: Sequence[str], allowed: Sequence[str]) -> None:
        also = f" It takes: {', '.join(allowed)}." if allowed else ""
        super().__init__(
            f"{host} does not let {username!r} in by {' and '.join(tried)}.{also} Check the user's name, the "
            f"credential, and what the server permits this user."
        )
        self.username, self.host, self.tried, self.allowed = username, host, list(tried), list(allowed)


class SshShellError(SshError):
    """The host runs no commands for this user, or has no POSIX shell (`sh`) to run them."""


class SshConnectionError(SshError):
    """The host speaks no SSH, or the connection ended too early."""

    def __init__(
        self, host: str, port: int, stage: str, cause: str, stdout: str = "", stderr: str = ""
    ) -> None:
        super().__init__(
            f"The connection to {host} port {port} was lost while {stage}: {cause}."
            f"{describe_output(stdout, stderr)}"
        )
        self.host, self.port, self.stage, self.cause = host, port, stage, cause
        self.stdout, self.stderr = stdout, stderr


class SshDroppedError(SshConnectionError):
    """The host closed the connection before it said anything, as a busy one does: another try may help."""


class SshTimeoutError(SshError):
    """It took too long; a command that ran was ended, with its group. Carries the ends of its output."""

    def __init__(self, host: str, timeout: float, stage: str, stdout: str = "", stderr: str = "") -> None:
        super().__init__(f"{host} took over {timeout:g} s while {stage}.{describe_output(stdout, stderr)}")
        self.host, self.timeout, self.stage, self.stdout, self.stderr = host, timeout, stage, stdout, stderr


class SshCommandFailedError(SshError):
    """The command ended with another exit code than 0. Carries the ends of its output."""

    def __init__(
        self, shown: str, host: str, return_code: int, stdout: str, stderr: str, note: str = ""
    ) -> None:
        more = f" {note}" if note else ""
        super().__init__(
            f"{shown} on {host} {describe_exit(return_code)}.{more}{describe_output(stdout, stderr)}"
        )
        self.host, self.return_code, self.stdout, self.stderr = host, return_code, stdout, stderr
