"""The systems that are compared: what is installed for each, and what it keeps of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAMS = Path(__file__).resolve().parent / "programs"


@dataclass(frozen=True)
class Peer:
    """A system, and how it is run here.

    Attributes:
        name: the program in `programs/`.
        requirements: what is installed with uv; the first is the system itself.
        stores: what is on disk when a task has ended, and what a crash therefore costs.
        runs: the processes and services that take part.
        variables: settings of the environment of the program.
    """

    name: str
    title: str
    requirements: tuple[str, ...]
    stores: str
    runs: str
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def program(self) -> Path:
        return PROGRAMS / f"run_{self.name}.py"


def ours(*names: str) -> tuple[str, ...]:
    """Return packages of this repository by their paths."""
    return tuple(str(ROOT / "packages" / name) for name in names)


FLOOR = "floor"
PEERS = (
    Peer(
        name=FLOOR,
        title="floor",
        requirements=(),
        stores="SQLite: one commit when a task starts, one when it ends",
        runs="one process, no system",
    ),
    Peer(
        name="apflow",
        title="apflow",
        requirements=ours("apflow-core", "apflow-storage-sql", "apflow-storage-duckdb"),
        stores="DuckDB: each change of a task, with its event and its result, is committed before it counts",
        runs="one process",
    ),
    Peer(
        name="dbos",
        title="DBOS",
        requirements=("dbos",),
        stores="SQLite: the result of each step",
        runs="one process",
    ),
    Peer(
        name="prefect",
        title="Prefect",
        requirements=("prefect",),
        variables=(
            ("PREFECT_LOGGING_LEVEL", "ERROR"),
            ("PREFECT_SERVER_ANALYTICS_ENABLED", "false"),
            ("DO_NOT_TRACK", "1"),
        ),
        stores="SQLite: states of tasks; results as files",
        runs="one process, and its server on loopback",
    ),
    Peer(
        name="dagster",
        title="Dagster",
        requirements=("dagster",),
        variables=(("DAGSTER_DISABLE_TELEMETRY", "1"),),
        stores="SQLite: events; results as files",
        runs="one process",
    ),
    Peer(
        name="luigi",
        title="Luigi",
        requirements=("luigi",),
        stores="a file for each task",
        runs="one process, local scheduler",
    ),
    Peer(
        name="celery",
        title="Celery",
        requirements=("celery", "sqlalchemy"),
        stores="messages as files, results in SQLite",
        runs="a client, and a worker with one process",
    ),
    Peer(
        name="dask",
        title="Dask",
        requirements=("distributed",),
        stores="nothing: graphs and results are in memory",
        runs="a client, a scheduler, and one worker with one thread",
    ),
)
BY_NAME = {each.name: each for each in PEERS}
