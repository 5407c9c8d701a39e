"""The PostgreSQL store keeps the contract of stores."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from apflow.core.store.base import TaskStore
from apflow.storage.postgres import PostgresStore
from apflow.testing.postgres import a_database, extended, run_sql
from apflow.testing.store import StoreContract


class TestPostgres(StoreContract):
    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def database(cls, postgres_server: str) -> Iterator[None]:
        with a_database(postgres_server) as url:
            cls.url = url
            yield

    def make_store(self, folder: Path) -> TaskStore:
        schema = f"s{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}"
        run_sql(self.url, f"CREATE SCHEMA IF NOT EXISTS {schema}")
        return PostgresStore(extended(self.url, search_path=schema))
