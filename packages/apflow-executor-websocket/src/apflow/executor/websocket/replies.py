"""The replies of a peer: read, counted, weighed, and searched for the one that is waited for. Pure."""

from __future__ import annotations

import base64
from typing import Any

from apflow.core.errors import InvalidInputError, QueryError
from apflow.core.payload.exact_json import loads_exactly
from apflow.core.payload.jmespath import Query
from apflow.core.payload.json_value import MAX_DEPTH, is_deeper
from apflow.executor.websocket.errors import (
    WebSocketInputError,
    WebSocketTooLargeError,
    WebSocketUnmatchedError,
)
from apflow.executor.websocket.request import Message

MAX_REPLIES = 10_000
# A result holds its replies two levels down; what would make it too deep to be kept stays text.
_MAX_DEPTH = MAX_DEPTH - 2


class Condition:
    """A JMESPath that a reply makes true: by its own rule, everything but false, null and what is empty."""

    def __init__(self, text: str) -> None:
        """Compile `text`. Raises `WebSocketInputError` if it is not a valid JMESPath expression."""
        self.text = text
        self.fault: str | None = None  # why the last reply could not be evaluated
        try:
            self._query = Query(text)
        except QueryError as error:
            raise WebSocketInputError(
                "until", f"is not a valid JMESPath expression: {error.cause}"
            ) from error

    def holds(self, reply: Any) -> bool:
        """Return whether a reply makes it true. A reply of another type, such as a string, does not."""
        self.fault = None
        try:
            found = self._query.search(reply)
        except QueryError as error:
            self.fault = error.cause
            return False
        return not (found is None or found is False or found in ("", [], {}))


class Replies:
    """What a peer has said so far. At most `most` replies are taken, of at most `limit` bytes in all."""

    def __init__(self, where: str, most: int, limit: int, condition: Condition | None = None) -> None:
        self.received: list[Any] = []
        self._where, self._most, self._limit = where, most, limit
        self._condition = condition
        self._size = 0
        self.is_complete = most == 0

    def add(self, message: Message) -> None:
        """Take a message.

        Raises:
            WebSocketTooLargeError: with it, they are too large.
            WebSocketUnmatchedError: it was the last to be looked at, and none has made `until` true.
        """
        self._size += len(message.encode() if isinstance(message, str) else message)
        if self._size > self._limit:
            raise WebSocketTooLargeError(self._where, self._limit, self.said)
        reply = read_reply(message)
        self.received.append(reply)
        is_last = len(self.received) >= self._most
        self.is_complete = is_last if self._condition is None else self._condition.holds(reply)
        if is_last and not self.is_complete and self._condition is not None:
            condition = self._condition
            raise WebSocketUnmatchedError(self._where, condition.text, len(self.received), condition.fault)

    @property
    def said(self) -> str:
        """How far it came, for an error: "2 of 3 replies had come"."""
        count = len(self.received)
        if self._condition is not None:
            fault = f" (on the last one it failed: {self._condition.fault})" if self._condition.fault else ""
            return f"{count} replies had come, none of which makes {self._condition.text!r} true{fault}"
        return f"{count} of {self._most} replies had come" if self._most else "no reply was waited for"


def read_replies(where: str, inputs: dict[str, Any]) -> Replies:
    """Return what takes the replies that the inputs ask for.

    Raises:
        WebSocketInputError: `until` is not a valid JMESPath expression.
    """
    until, limit = inputs.get("until"), inputs.get("max_output_bytes", 1 << 20)
    condition = None if until is None else Condition(until)
    if not inputs.get("wait_response", True):
        return Replies(where, 0, limit)
    most = inputs.get("response_count")
    if most is None:
        most = 1 if condition is None else MAX_REPLIES
    return Replies(where, most, limit, condition)


def read_reply(message: Message) -> Any:
    """Return what a message says: JSON where it is, else text; bytes as `{"base64": ...}`."""
    if isinstance(message, bytes):
        return {"base64": base64.b64encode(message).decode()}
    try:
        value = loads_exactly(message)
    except InvalidInputError:
        return message
    return message if is_deeper(value, _MAX_DEPTH) else value
