"""How a gRPC call can fail.

```text
ExecutorError
└── GrpcError
    ├── GrpcInputError            server, tls or metadata cannot be used; nothing was sent
    ├── GrpcDescriptionError      what describes the service is missing, unusable, or lacks the method
    ├── GrpcRequestError          the request is not what the method takes; it was not sent
    ├── GrpcResponseError         what came back cannot be read
    ├── GrpcOutputError           what came back is larger than permitted
    └── GrpcCallError             the call ended with another status than OK
        ├── GrpcTimeoutError      it took too long and was cancelled
        └── GrpcUnavailableError  the server cannot be reached, or the connection broke
```
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from apflow.core.errors import ExecutorError

MAX_MESSAGE_LENGTH = 4000


class GrpcError(ExecutorError):
    """A gRPC call that did not do what it was asked to."""


class GrpcInputError(GrpcError):
    """An input that no call can be made with. Nothing was sent."""

    def __init__(self, name: str, fault: str) -> None:
        super().__init__(f"{name} {fault}")
        self.input_name = name


class GrpcDescriptionError(GrpcError):
    """What describes the service is missing or unusable, or it has no such method."""


class GrpcRequestError(GrpcError):
    """The request is not what the method takes. `path` names the place; nothing was sent."""

    def __init__(self, path: str, fault: str) -> None:
        super().__init__(f"{path}: {fault}. The request was not sent.")
        self.path = path


class GrpcResponseError(GrpcError):
    """What the server sent is not what its description says."""


class GrpcOutputError(GrpcError):
    """One response is larger than all of them may be."""

    def __init__(self, method: str, limit: int) -> None:
        super().__init__(
            f"The response of {method} is larger than {limit} bytes. Ask for less, or raise max_output_bytes."
        )
        self.limit = limit


class GrpcCallError(GrpcError):
    """The call ended with another status than OK.

    `code` is its name, `message` what the server says, `details` the rich error details as JSON.
    """

    advice = ""

    def __init__(
        self, server: str, method: str, code: str, message: str, details: Sequence[dict[str, Any]] = ()
    ) -> None:
        said = message.strip()[:MAX_MESSAGE_LENGTH].rstrip(".!") or "no reason given"
        shown = f" Details: {json.dumps(list(details))[:MAX_MESSAGE_LENGTH]}" if details else ""
        super().__init__(f"{method} at {server} failed with {code}: {said}.{self.advice}{shown}")
        self.server, self.method, self.code = server, method, code
        self.message, self.details = message, list(details)


class GrpcTimeoutError(GrpcCallError):
    """The call took too long, here or at the server, and was cancelled."""


class GrpcUnavailableError(GrpcCallError):
    """The server cannot be reached, the connection broke, or the server reports that it is unavailable."""

    advice = " Check that the server runs and listens there, and whether it wants TLS (tls)."
