"""Reads files of tasks for the page, as the command line reads them: JSON or YAML, with parameters.

Nothing is stored: the page gets the tasks, which it then checks and submits by the operations.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field
from pydantic import ValidationError as BodyError
from starlette.requests import Request
from starlette.responses import Response

from apflow.core.authoring.array_validation import flat_entries
from apflow.core.authoring.file_parameters import declares_parameters, fill_parameters, read_parameters
from apflow.core.errors import InvalidInputError
from apflow.core.model.task import Json
from apflow.core.payload.file_text import read_file_text
from apflow.core.service.task_service import TaskService, as_array
from apflow.server.auth.authentication import current_service
from apflow.server.http.api_error import MalformedRequestError
from apflow.server.http.limits import ENVELOPE, read_json
from apflow.server.http.response import JsonResponse

MAX_CHARACTERS: Final = (
    2_000_000  # larger files are for the command line, which reads them in its own process
)

router = APIRouter(include_in_schema=False)


class GivenFile(BaseModel):
    """The body of the request."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, Field(max_length=MAX_CHARACTERS)]
    values: dict[str, Any] = {}


@router.post("/ui/tree-file")
async def read(request: Request, service: Annotated[TaskService, Depends(current_service)]) -> Response:
    """Return the parameters that a file declares, and its tasks with the given values; or its faults.

    The faults of a file are an answer, not an error of the request: the reader of the page fixes them.
    """
    del service  # the caller is known, and its request is counted
    settings = request.app.state.settings
    try:
        given = GivenFile.model_validate(await read_json(request, settings))
    except BodyError as error:
        raise MalformedRequestError(
            f"The body has `text` and `values`: {error.errors()[0]['msg']}."
        ) from error
    try:
        depth = settings.max_json_depth + ENVELOPE
        # In a thread: other requests do not wait for a large file.
        found = await asyncio.to_thread(read_tree_file, given.text, given.values, depth)
    except InvalidInputError as error:
        return JsonResponse({"parameters": None, "tasks": None, "faults": error.violations or [str(error)]})
    return JsonResponse(found | {"faults": []})


def read_tree_file(text: str, values: dict[str, Json], max_depth: int) -> dict[str, Json]:
    """Return what a file of tasks contains. Pure.

    Args:
        values: of its parameters, by name; those with a default may be left out.
        max_depth: the most levels of JSON that the file may have.

    Returns:
        `parameters`: a JSON Schema of the values, null if the file declares none; `tasks`: an array, null
        while a parameter has no value.

    Raises:
        InvalidInputError: the text is not a file of tasks, or a value or a reference is wrong.
    """
    given = read_file_text(text, max_depth=max_depth)
    if not declares_parameters(given):
        return {"parameters": None, "tasks": as_array(given)}
    parameters = read_parameters(given)
    filled = fill_parameters(
        flat_entries(as_array({"tasks": given["tasks"]})), parameters, parameters.complete(values)
    )
    schema: dict[str, Json] = {
        "type": "object",
        "properties": dict(parameters.declared),
        "required": parameters.missing(()),
    }
    return {"parameters": schema, "tasks": None if parameters.missing(values) else filled.tasks}
