"""The database of a campaign for users: on their disk or server, and never the one that they use."""

from __future__ import annotations

import uuid
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from apflow.core.errors import InvalidInputError
from apflow.core.store.duckdb_url import file_of
from apflow.core.store.shown_url import shown_url
from apflow.testing.postgres import extended, run_sql


@dataclass
class Place:
    """A database that only the campaign uses.

    Attributes:
        url: of the database.
        shown: where it is, for people, without a password.
        is_shared: whether several workers may use it at once.
        is_kept: whether it stays after the campaign.
    """

    url: str
    shown: str
    is_shared: bool
    is_kept: bool = False


@contextmanager
def own_place(url: str) -> Generator[Place]:
    """Give a new database beside the one of a URL: a file in its directory, or a schema in its database.

    The database that the URL names is not opened (DuckDB), or none of its tables is touched (PostgreSQL).

    Raises:
        InvalidInputError: the URL names a database in memory, or of another kind.
    """
    scheme = url.partition(":")[0].partition("+")[0].lower()
    if scheme == "duckdb" and (file := file_of(url)) is not None:
        with _own_file(file) as place:
            yield place
    elif scheme in ("postgresql", "postgres"):
        with _own_schema(url) as place:
            yield place
    else:
        raise InvalidInputError(
            f"{shown_url(url)} is not on a disk: a campaign needs a DuckDB file or PostgreSQL. Name one with "
            "--database URL."
        )


@contextmanager
def _own_file(beside: Path) -> Generator[Place]:
    if not beside.parent.is_dir():
        raise InvalidInputError(f"Directory {beside.parent} does not exist; create it first.")
    file = beside.with_name(f"{beside.stem}.torture-{uuid.uuid4().hex[:8]}.duckdb")
    place = Place(f"duckdb:///{file}", str(file), is_shared=False)
    try:
        yield place
    finally:
        if not place.is_kept:
            for each in file.parent.glob(f"{file.name}*"):  # the log, too
                if each.is_file():
                    each.unlink()


@contextmanager
def _own_schema(url: str) -> Generator[Place]:
    if find_spec("asyncpg") is None:
        raise InvalidInputError("PostgreSQL needs the package apflow-storage-postgres. Install it.")
    server = f"postgresql://{url.partition('://')[2]}"
    schema = f"apflow_torture_{uuid.uuid4().hex[:8]}"
    run_sql(server, f"CREATE SCHEMA {schema}")
    place = Place(
        extended(server, search_path=schema), f"schema {schema} of {shown_url(server)}", is_shared=True
    )
    try:
        yield place
    finally:
        if not place.is_kept:
            run_sql(server, f"DROP SCHEMA {schema} CASCADE")
