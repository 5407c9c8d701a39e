"""The results of a tree by the keys of its tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from apflow.core.errors import NoResultError
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Task

Source = Callable[[], Iterable[tuple[str, Task]]]


class Results(Mapping[str, Json]):
    """Key -> result, of the completed tasks of a tree. Looked up when it is first read.

    `results[key]` raises `NoResultError`, which is a `KeyError`, for a task that has not completed and for a
    key that no task has; `results.get(key)` returns None then.
    """

    def __init__(self, source: Source) -> None:
        self._source: Source | None = source
        self._tasks: dict[str, Task] = {}

    def __getitem__(self, key: str) -> Json:
        task = self.tasks().get(key)
        if task is None or task.status is not TaskStatus.COMPLETED:
            raise NoResultError(key, *(() if task is None else (str(task.status), task.error)))
        return task.result

    def __iter__(self) -> Iterator[str]:
        return (key for key, task in self.tasks().items() if task.status is TaskStatus.COMPLETED)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"Results({dict(self)!r})"

    def tasks(self) -> Mapping[str, Task]:
        """Return every task, completed or not, by its key."""
        if self._source is not None:
            self._tasks, self._source = dict(self._source()), None
        return self._tasks


class RunOutcome(dict[str, Json]):
    """The outcome of a run: a dict of plain JSON, and the `results` of its tasks by their keys.

    Args:
        values: `status`, `progress`, `root_task_id`, `result`, `error` and `tolerated` of the run.
        source: returns the tasks of the tree, when `results` is first read.
    """

    def __init__(self, values: Mapping[str, Json], source: Source) -> None:
        super().__init__(values)
        self._results = Results(source)

    @property
    def results(self) -> Results:
        """Key -> result, of the completed tasks; of several trees, `ROOT/KEY` -> result."""
        return self._results

    def __reduce__(self) -> tuple[Callable[..., RunOutcome], tuple[Json, ...]]:
        return _restored, (dict(self), dict(self.results.tasks()))


def _restored(values: Mapping[str, Json], tasks: Mapping[str, Task]) -> RunOutcome:
    """Return an outcome that was pickled or copied."""
    return RunOutcome(values, tasks.items)


def joined_results(outcomes: Iterable[RunOutcome]) -> Iterator[tuple[str, Task]]:
    """Yield the tasks of several trees with their paths: the key of the root, or its id if trees share it."""
    trees = [(outcome["root_task_id"], outcome.results.tasks()) for outcome in outcomes]
    keys = Counter(next(t.key for t in tasks.values() if t.id == root_id) for root_id, tasks in trees)
    for root_id, tasks in trees:
        root = next(task for task in tasks.values() if task.id == root_id)
        prefix = root.key if keys[root.key] == 1 else root.id
        yield from ((f"{prefix}/{key}", task) for key, task in tasks.items())
