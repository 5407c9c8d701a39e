"""Convert results to the models of the table of operations."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import TypeAdapter
from pydantic import ValidationError as AnswerError

from apflow.client.errors import ServerError
from apflow.core.model.task import Json
from apflow.core.service.operations import OPERATIONS


def read_typed(name: str, result: Json) -> Any:
    """Return a result as the result type of the operation.

    Raises:
        ServerError: the result does not match, because the server has another version.
    """
    try:
        return _adapter(name).validate_python(result)
    except AnswerError as error:
        where = ", ".join(
            ".".join(map(str, each["loc"])) or "the whole result" for each in error.errors()[:5]
        )
        raise ServerError(
            f"The result of {name} does not match this version of apflow ({where}). "
            "Use `call`, which returns it without validation.",
            200,
        ) from error


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(OPERATIONS[name].result)
