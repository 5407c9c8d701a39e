"""Liveness and readiness of the server."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from apflow.core import plugins
from apflow.core.errors import StoreUnavailableError
from apflow.core.store.base import TaskStore
from apflow.server.http.response import JsonResponse

logger = logging.getLogger(__name__)

TIMEOUT: Final = 2.0  # seconds for the store to answer
WRITE_EVERY: Final = 5.0  # seconds without a write, after which a probe writes: a disk may be full unnoticed
KIND, KEY = "probe", "ready"  # of the record that is written
RETRY: Final = {"Retry-After": "1"}

router = APIRouter(tags=["probes"])


@router.head("/health", include_in_schema=False)
@router.get(
    "/health",
    summary="Report that the process responds and runs trees.",
    responses={503: {"description": "It runs no trees, or sends no webhooks."}},
)
async def health(request: Request) -> Response:
    """Report that the process responds and runs trees. Does not check the store."""
    problem = idleness_of(request)
    if problem:
        return JsonResponse({"status": problem, "version": plugins.version("apflow-server")}, 503, RETRY)
    return JsonResponse({"status": "ok", "version": plugins.version("apflow-server")})


def idleness_of(request: Request) -> str:
    """Return what part of its work the server does not do at present; nothing where it does all of it."""
    duties = request.app.state.duties
    return "not started" if duties is None else str(duties.problem)


@router.head("/ready", include_in_schema=False)
@router.get(
    "/ready",
    summary="Report whether the server can do its work.",
    responses={503: {"description": "It cannot, or is about to end."}},
)
async def ready(request: Request) -> Response:
    """Report whether the store responds, and the server is not shutting down."""
    state = request.app.state
    idle = "draining" if state.drain.has_begun else idleness_of(request)
    problem = {"status": idle} if idle else await problem_of(state.db)
    if problem:
        return JsonResponse(problem, 503, RETRY)
    return JsonResponse({"status": "ok"})


async def problem_of(db: TaskStore) -> dict[str, str]:
    """Return the `status` of a store that cannot be read or written, and the `reason`; nothing otherwise."""
    try:
        async with asyncio.timeout(TIMEOUT):
            await db.get(["any"])
            await _check_writing(db)
    except StoreUnavailableError as error:
        logger.warning("The store is unavailable: %s", error)
        return {"status": "store unavailable", "reason": error.reason}
    except Exception as error:  # noqa: BLE001 - whatever it is, it is not ready
        logger.warning("The store does not answer: %s", error or type(error).__name__)
        if db.trouble is not None:
            return {"status": "store unreachable", "reason": db.trouble.reason}
        if isinstance(error, TimeoutError):
            return {"status": "store unreachable", "reason": f"it did not answer within {TIMEOUT:g} s"}
        return {"status": "store unreachable"}
    return {}


async def _check_writing(db: TaskStore) -> None:
    """Write a small record, unless a write has succeeded a moment ago and none has failed since.

    Raises:
        StoreUnavailableError: the store cannot write, or has failed to a moment ago.
    """
    is_fresh = time.monotonic() - db.wrote_at < WRITE_EVERY
    if db.capabilities.is_durable and (db.trouble is not None or not is_fresh):
        await db.put_record(KIND, KEY, "written by the probe")
    if db.trouble is not None:  # larger writes fail
        raise db.trouble
