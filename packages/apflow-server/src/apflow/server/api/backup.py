"""A copy of the database, to download: `GET /backup`, for admins."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import AsyncGenerator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, BinaryIO, Final

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from apflow.core.service.task_service import TaskService
from apflow.server.auth.authentication import current_service
from apflow.server.http.api_error import api_error_of
from apflow.server.observability import audit

PIECE: Final = 1 << 20  # bytes that are sent at once
NAME: Final = "backup"  # in the audit log

router = APIRouter(tags=["database"])


@router.get(
    "/backup",
    summary="Download a consistent copy of the database.",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/octet-stream": {}}, "description": "The copy: a DuckDB file."},
        401: {"description": "The token is missing or invalid."},
        403: {"description": "The caller is not an admin."},
        422: {"description": "The database is not a file."},
    },
)
async def backup(request: Request, service: Annotated[TaskService, Depends(current_service)]) -> Response:
    """Copy the database of the server, which must be a DuckDB file, while it is in use."""
    path = _temporary(service.db.file)
    outcome = "interrupted"
    try:
        await service.backup(path)
        outcome = "done"
    except Exception as error:
        failure = api_error_of(error)
        outcome = failure.code.name.lower()
        raise failure from error
    finally:
        audit.note(request, service.user_id, NAME, outcome, [])
    file = path.open("rb")
    with suppress(OSError):  # Windows does not remove open files: `_pieces` does, after it has closed it
        _remove(path)
    size = file.seek(0, 2)
    file.seek(0)
    return StreamingResponse(
        _pieces(file, path),
        media_type="application/octet-stream",
        headers={"Cache-Control": "no-store", "Content-Length": str(size)},
    )


def _temporary(database: Path | None) -> Path:
    """Return the path of a file for the copy: next to the database, where there is room for such files."""
    name = f".apflow-backup-{uuid.uuid4().hex}"
    return (Path(tempfile.gettempdir()) if database is None else database.parent) / name


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


async def _pieces(file: BinaryIO, path: Path) -> AsyncGenerator[bytes]:
    try:
        while piece := await asyncio.to_thread(file.read, PIECE):
            yield piece
    finally:
        file.close()
        _remove(path)
