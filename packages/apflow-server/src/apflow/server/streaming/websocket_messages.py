"""The messages of a WebSocket, in JSON: an `action` from the client, a `type` from the server. Pure.

Events are sent unchanged, so the types of events must differ from those below: `watching`, `ended`,
`unwatched`, `error`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic import ValidationError as MessageError

from apflow.core.bounds import MAX_COUNT
from apflow.core.errors import InvalidInputError, MalformedTextError
from apflow.core.model.task import Json
from apflow.core.payload.json_text import read_json
from apflow.server.http.api_error import ApiError, Code, InvalidParametersError, MalformedRequestError

MAX_DEPTH: Final = 8  # levels of JSON
MAX_SIZE: Final = 64 << 10  # characters of one message of a client


class Authenticate(BaseModel):
    """The first message, where the token is not in the handshake."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["authenticate"]
    token: str = Field(repr=False)


class Watch(BaseModel):
    """Follow the tree of a task, from after an event that is known, else from a snapshot."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["watch"]
    task_id: str
    after: int | None = Field(None, ge=0, le=MAX_COUNT)


class Unwatch(BaseModel):
    """Stop following a tree."""

    model_config = ConfigDict(extra="forbid")

    action: Literal["unwatch"]
    task_id: str


Message = Authenticate | Watch | Unwatch
_MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="action")])


def read_message(text: str) -> Message:
    """Return what a client says.

    Raises:
        ApiError: it is not a valid message.
    """
    if len(text) > MAX_SIZE:
        raise MalformedRequestError(f"A message has at most {MAX_SIZE} characters.")
    try:
        read_json(text, max_depth=MAX_DEPTH)  # refuses a key that is repeated
    except MalformedTextError as error:
        raise MalformedRequestError(f"A message is a JSON object. {error}", Code.PARSE) from error
    try:
        return _MESSAGE.validate_json(text)
    except MessageError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise MalformedRequestError("A message is a JSON object.", Code.PARSE) from error
        faults = [
            f"{'.'.join(str(part) for part in each['loc']) or 'message'}: {each['msg']}"
            for each in error.errors(include_input=False, include_url=False)
        ]
        raise InvalidParametersError(InvalidInputError("The message cannot be used.", faults)) from error


def error_message(error: ApiError, task_id: str | None = None) -> dict[str, Json]:
    """Return the message for an error, with the task that it is about."""
    return {"type": "error", "task_id": task_id, "error": error.body()}
