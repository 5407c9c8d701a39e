"""The page over HTTP: files only. They hold nothing secret, so they need no token.

All data comes from the operations, with the identity of the caller. URLs of the page are relative, so that
it works below any path; its own routes are in the fragment of its address, which no server sees.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from apflow.server.http.api_error import ApiError, Code
from apflow.server.ui.files import ASSETS, INDEX, NOT_BUILT, PageFile, find_file, is_built

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HASHED: Final = "public, max-age=31536000, immutable"
CHECKED: Final = "no-cache"  # may be kept, and is asked for again

router = APIRouter(include_in_schema=False)


@router.api_route("/ui", methods=["GET", "HEAD"])
def redirect() -> Response:
    """Redirect to the folder of the page: relative, so that the path before it does not matter."""
    return Response(status_code=307, headers={"Location": "ui/"})


@router.api_route("/ui/", methods=["GET", "HEAD"])
def index(request: Request) -> Response:
    """Return the page."""
    folder = _folder(request)
    if not is_built(folder):
        raise ApiError(404, Code.NOT_FOUND, NOT_BUILT)
    return _sent(request, folder, INDEX, CHECKED)


@router.api_route("/ui/assets/{name}", methods=["GET", "HEAD"])
def asset(request: Request, name: str) -> Response:
    """Return a script, a style or an image of the page. Its name changes with its content."""
    return _sent(request, _folder(request) / ASSETS, name, HASHED)


@router.api_route("/ui/{name}", methods=["GET", "HEAD"])
def other(request: Request, name: str) -> Response:
    """Return another file of the build, such as an icon."""
    return _sent(request, _folder(request), name, CHECKED)


def _folder(request: Request) -> Path:
    folder: Path = request.app.state.page_folder
    return folder


def _sent(request: Request, folder: Path, name: str, cache: str) -> Response:
    file = find_file(folder, name)
    if file is None:
        raise ApiError(404, Code.NOT_FOUND, "The page has no such file. Its address ends in /ui/.")
    is_compressed = file.compressed is not None and _takes_gzip(request)
    etag = f'{file.etag[:-1]}-gzip"' if is_compressed else file.etag
    headers = {"Cache-Control": cache, "Content-Security-Policy": POLICY, "ETag": etag}
    if file.compressed is not None:
        headers["Vary"] = "Accept-Encoding"
    if _is_known(request, etag):
        return Response(status_code=304, headers=headers)
    return _whole(file, headers, is_compressed=is_compressed)


def _whole(file: PageFile, headers: dict[str, str], *, is_compressed: bool) -> Response:
    if is_compressed:
        headers = headers | {"Content-Encoding": "gzip"}
        return Response(file.compressed, headers=headers, media_type=file.media_type)
    return Response(file.content, headers=headers, media_type=file.media_type)


def _takes_gzip(request: Request) -> bool:
    given = [each.strip() for each in request.headers.get("accept-encoding", "").lower().split(",")]
    return any(each == "gzip" or (each.startswith("gzip;") and not each.endswith("=0")) for each in given)


def _is_known(request: Request, etag: str) -> bool:
    given = request.headers.get("if-none-match", "")
    return any(each.strip().removeprefix("W/") in (etag, "*") for each in given.split(","))
