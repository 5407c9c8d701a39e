"""The built page as files: which there are, and how each is sent.

Only files with a known type are served, from the folder of the build and from its `assets`. The name of an
asset contains a hash of its content, so that browsers may keep it.
"""

from __future__ import annotations

import gzip
import re
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Final

from apflow.core.errors import ApflowError

STATIC: Final = Path(__file__).with_name("static")
INDEX: Final = "index.html"
EXPORT: Final = "export.html"
ASSETS: Final = "assets"
NOT_BUILT: Final = (
    "The page is not part of this installation, because it was not built. To build it: "
    "npm ci && npm run build, in packages/apflow-server/web."
)

# Written out, because `mimetypes` reads what the machine says.
MEDIA_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/vnd.microsoft.icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
COMPRESSIBLE: Final = ("text/", "application/json", "image/svg+xml")
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_MAX_KEPT: Final = 64  # files in memory


class PageMissingError(ApflowError):
    """The page is not part of the installation."""

    def __init__(self) -> None:
        super().__init__(NOT_BUILT)


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of the page.

    Attributes:
        compressed: the content compressed by gzip; None if that does not help.
        etag: of the plain content, with its quotation marks.
    """

    content: bytes
    compressed: bytes | None
    media_type: str
    etag: str


def is_built(folder: Path) -> bool:
    """Return whether a folder contains the page."""
    return (folder / INDEX).is_file()


def run_page() -> str:
    """Return the page for one run, in which `null` stands for the data of the run.

    Raises:
        PageMissingError: the page was not built.
    """
    try:
        return (STATIC / EXPORT).read_text(encoding="utf-8")
    except OSError as error:
        raise PageMissingError from error


def find_file(folder: Path, name: str) -> PageFile | None:
    """Return a file directly in a folder, by its name; None if there is no such file, or it is not served."""
    path = folder / name
    media_type = MEDIA_TYPES.get(path.suffix)
    if media_type is None or not _NAME.fullmatch(name):
        return None
    try:
        status = path.stat()
        return _read(path, media_type, status.st_mtime_ns, status.st_size) if path.is_file() else None
    except OSError:
        return None


@lru_cache(maxsize=_MAX_KEPT)
def _read(path: Path, media_type: str, *_: int) -> PageFile:
    content = path.read_bytes()
    etag = f'"{sha256(content).hexdigest()[:32]}"'
    compressed = gzip.compress(content, mtime=0) if media_type.startswith(COMPRESSIBLE) else content
    return PageFile(content, compressed if len(compressed) < len(content) else None, media_type, etag)
