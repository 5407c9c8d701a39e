"""How running a command in a container can fail.

```text
ExecutorError
└── DockerError
    ├── DockerRefusedError       the policy of this machine forbids it
    ├── EngineUnavailableError   no Docker engine answers
    │   ├── EngineAccessError    one is there, and does not admit us
    │   └── EngineLostError      it has stopped answering in the middle
    ├── EngineRefusedError       the engine does not take what it was asked for
    ├── LimitNotHeldError        the engine's machine cannot hold a limit
    ├── ImageNotFoundError       there is no such image
    ├── ImagePullError           it cannot be pulled
    ├── ContainerStartError      the command cannot be started in it
    ├── ContainerFailedError     the command ended with another exit code than 0
    │   └── OutOfMemoryError     it was killed for using more memory than it may
    └── ContainerTimeoutError    it took too long and was killed
```
"""

from __future__ import annotations

from collections.abc import Sequence

from apflow.core.errors import ExecutorError
from apflow.core.process.captured_output import describe_output


class DockerError(ExecutorError):
    """A container that did not do what it was asked to."""


class DockerRefusedError(DockerError):
    """The policy of this machine forbids it, or it cannot be said to an engine. Nothing was started."""


class EngineUnavailableError(DockerError):
    """No Docker engine answers."""

    def __init__(self, where: str, cause: str) -> None:
        super().__init__(
            f"No Docker engine answers at {where}: {cause}. Install and start one (Debian: apt install "
            "docker.io), or say where it listens: DOCKER_HOST=unix:///path/of/docker.sock."
        )
        self.where = where


class EngineAccessError(EngineUnavailableError):
    """An engine is there, and does not admit us."""

    def __init__(self, where: str, cause: str) -> None:
        super().__init__(where, cause)
        self.args = (
            f"The Docker engine at {where} does not admit this process: {cause}. At a socket, its user must "
            "be in the group docker; at a port DOCKER_TLS_VERIFY and DOCKER_CERT_PATH name the certificates.",
        )


class EngineLostError(EngineUnavailableError):
    """The engine stopped responding during the call. The state of the container is unknown."""

    def __init__(self, where: str, cause: str) -> None:
        super().__init__(where, cause)
        self.args = (
            f"The Docker engine at {where} has stopped answering while a container ran: {cause}. "
            "Is it still running? What is left of the container is removed at the next use of the engine.",
        )


class EngineRefusedError(DockerError):
    """The engine does not take what it was asked for."""

    def __init__(self, what: str, explanation: str) -> None:
        super().__init__(f"The Docker engine refuses to {what}: {explanation}")
        self.explanation = explanation


class LimitNotHeldError(DockerError):
    """The engine's machine cannot hold a limit. Nothing was started."""

    def __init__(self, limits: Sequence[str], warnings: Sequence[str]) -> None:
        said = f" It says: {' '.join(warnings)}" if warnings else ""
        names = ", ".join(f"resources.{each}" for each in limits)
        super().__init__(
            f"The Docker engine cannot hold {names} on its machine, so the container was not started.{said} "
            "Use a machine whose kernel has the control groups for that, or ask for no such limit (null)."
        )
        self.limits, self.warnings = list(limits), list(warnings)


class ImageNotFoundError(DockerError):
    """There is no such image, and it is not pulled."""

    def __init__(self, image: str, policy: str) -> None:
        super().__init__(
            f"The Docker engine has no image {image!r}, and pull is {policy!r}. "
            'Pull or build it first, or set pull: "missing".'
        )
        self.image = image


class ImagePullError(DockerError):
    """An image cannot be pulled."""

    def __init__(self, image: str, cause: str) -> None:
        super().__init__(
            f"The image {image!r} cannot be pulled: {cause}. "
            "Check its name, its registry, and that this machine is logged in there (docker login)."
        )
        self.image = image


class ContainerStartError(DockerError):
    """The command cannot be started: no such program in the image, not executable, no such user."""

    def __init__(self, shown: str, image: str, cause: str) -> None:
        super().__init__(f"{shown} cannot be started in {image!r}: {cause}.")
        self.image = image


class ContainerFailedError(DockerError):
    """The command ended with another exit code than 0. Carries the ends of its output."""

    def __init__(self, shown: str, exit_code: int, stdout: str, stderr: str, how: str = "") -> None:
        super().__init__(f"{shown} {how or _how(exit_code)}.{describe_output(stdout, stderr)}")
        self.exit_code, self.stdout, self.stderr = exit_code, stdout, stderr


class OutOfMemoryError(ContainerFailedError):
    """The container was killed for using more memory than it may. Carries the ends of its output."""

    def __init__(self, shown: str, exit_code: int, stdout: str, stderr: str, memory: int | None) -> None:
        limit = f"its limit of {memory} bytes (resources.memory)" if memory else "what its machine has"
        how = f"was killed for using more memory than {limit}; exit code {exit_code}"
        super().__init__(shown, exit_code, stdout, stderr, how)
        self.memory = memory


class ContainerTimeoutError(DockerError):
    """It took too long. The container was killed and removed. Carries the ends of its output."""

    def __init__(self, shown: str, timeout: float, stdout: str, stderr: str) -> None:
        super().__init__(f"{shown} took over {timeout:g} s and was killed.{describe_output(stdout, stderr)}")
        self.timeout, self.stdout, self.stderr = timeout, stdout, stderr


def _how(exit_code: int) -> str:
    if 128 < exit_code < 128 + 65:
        return f"was killed by signal {exit_code - 128} (exit code {exit_code})"
    return f"ended with exit code {exit_code}"
