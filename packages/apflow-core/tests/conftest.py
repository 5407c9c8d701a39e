"""Fixtures for the tests of the core."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from apflow.core import MemoryStore, create_session, plugins
from apflow.core.settings import reset_settings
from apflow.core.store.base import TaskStore

Install = Callable[..., None]
GROUP = "apflow.executors"


@pytest.fixture(params=["memory", "duckdb"])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TaskStore]:
    """A store in memory, and one in a file."""
    store: TaskStore = MemoryStore()
    if request.param == "duckdb":
        pytest.importorskip("apflow.storage.duckdb")
        store = create_session(f"duckdb:///{tmp_path}/t.duckdb")
    yield store
    asyncio.run(store.close())


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution made of one module, as pip lays it out."""
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = set(sys.modules)

    def install(name: str, entry: str, code: str = "", requires: str = "", group: str = GROUP) -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-1.2.dist-info"
        folder.mkdir()
        needs = f"Requires-Dist: {requires}\n" if requires else ""
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n{needs}")
        (folder / "entry_points.txt").write_text(f"[{group}]\n{entry}\n")
        module = entry.partition("=")[2].partition(":")[0].strip()
        (tmp_path / f"{module}.py").write_text(code)
        plugins.reset()

    plugins.reset()
    reset_settings()
    yield install
    plugins.reset()
    reset_settings()
    for module in set(sys.modules) - modules:
        del sys.modules[module]
