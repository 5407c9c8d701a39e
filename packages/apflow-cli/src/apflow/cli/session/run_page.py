"""A run as one HTML file that opens without a server: the page of the server, with the run in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final, cast

from apflow.cli.session.run_document import RunDocument
from apflow.core import plugins
from apflow.core.errors import ApflowError
from apflow.core.model.task import to_json, utc_now
from apflow.core.service.task_service import TaskService

GROUP: Final = "apflow.run_pages"  # entry points: functions that return the text of a page for one run
LINES: Final = 500  # of one page of an export
MAX_EXPLAINED: Final = 200  # tasks whose status is explained
MAX_READ: Final = 200_000  # tasks that are read for explanations, in total
_DATA: Final = re.compile(r"(<script\b[^>]*\bid=[\"']?run[\"']?[^>]*>)\s*null\s*(</script>)")


class PageNotInstalledError(ApflowError):
    """No installed distribution has a page for a run."""

    def __init__(self) -> None:
        super().__init__("The page of a run is part of apflow-server: pip install apflow-server")


class PageFormError(ApflowError):
    """A page has no place for the data of a run."""

    def __init__(self) -> None:
        super().__init__(
            'The page has no <script type="application/json" id="run">null</script>, where the data of the '
            "run belongs. Build it again, or install another version of apflow-server."
        )


def split_page() -> tuple[str, str]:
    """Return what precedes and what follows the data of a run in its page.

    Raises:
        PageNotInstalledError: no installed distribution has such a page.
        PageFormError: the page has no place for the data.
    """
    names = plugins.names(GROUP)
    if not names:
        raise PageNotInstalledError
    page = cast("Callable[[], str]", plugins.load(GROUP, sorted(names)[0]))()
    found = _DATA.search(page)
    if found is None:
        raise PageFormError
    return page[: found.end(1)], page[found.start(2) :]


async def collect(service: TaskService, document: RunDocument) -> None:
    """Read a run into a document."""
    cursor = None
    while True:
        page = await service.export(root_ids=[document.root_id], with_logs=True, cursor=cursor, limit=LINES)
        for line in page["lines"]:
            document.add({name: value for name, value in line.items() if value is not None})
        cursor = page["cursor"]
        if cursor is None:
            break
    most = min(MAX_EXPLAINED, max(1, MAX_READ // max(1, document.count)))
    for task_id in document.unfinished[:most]:
        document.why[task_id] = await service.why(task_id)


async def new_document(service: TaskService, task_id: str) -> RunDocument:
    """Return an empty document for the tree of a task.

    Raises:
        NotFoundError: there is no such task.
    """
    task: dict[str, Any] = await service.get(task_id)
    return RunDocument(task["root_id"], to_json(utc_now()))


def write_page(document: RunDocument, parts: tuple[str, str], out: BinaryIO) -> None:
    """Write a page with its data."""
    for piece in _whole(document, parts):
        out.write(piece.encode())


def _whole(document: RunDocument, parts: tuple[str, str]) -> Iterator[str]:
    yield parts[0]
    yield from document.pieces()
    yield parts[1]
