"""DuckDB URLs, for what must know the file of a database without opening it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from apflow.core.errors import InvalidInputError

MEMORY: Final = ":memory:"
_URL: Final = re.compile(r"duckdb://(?:/(?P<path>.+))?", re.DOTALL)


def file_of(url: str) -> Path | None:
    """Return the file of a URL as an absolute path without links; None for a database in memory.

    Raises:
        InvalidInputError: the URL is not a valid DuckDB URL.
    """
    match = _URL.fullmatch(url)
    if match is None:
        raise InvalidInputError(
            f"{url!r} is not a valid DuckDB URL. Use duckdb:///file.duckdb (relative to the working "
            f"directory), duckdb:////absolute/file.duckdb or duckdb:///{MEMORY}."
        )
    path = match["path"] or MEMORY
    return None if path == MEMORY else Path(path).expanduser().resolve()


def default_url() -> str:
    """Return the URL of the database that is used if no setting names one."""
    import platformdirs  # here: most processes name their database

    return f"duckdb:///{platformdirs.user_data_path('apflow') / 'apflow.duckdb'}"
