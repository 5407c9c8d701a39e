"""Results as the models that the table of operations names."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import TypeAdapter
from pydantic import ValidationError as AnswerError

from apflow.client.errors import ServerError
from apflow.core.model.task import Json
from apflow.core.service.operations import OPERATIONS


def read_typed(name: str, result: Json) -> Any:
    """Return a result as what the operation says it returns.

    Raises:
        ServerError: it is something else; the server is of another version.
    """
    try:
        return _adapter(name).validate_python(result)
    except AnswerError as error:
        where = ", ".join(".".join(map(str, each["loc"])) or "all of it" for each in error.errors()[:5])
        raise ServerError(
            f"The result of {name} is not what this version of apflow expects ({where}). "
            "`call` returns it as it is.",
            200,
        ) from error


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(OPERATIONS[name].result)
