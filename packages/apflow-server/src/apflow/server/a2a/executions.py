"""Executions: which A2A task stands for which run of which tree, in which context.

The ID of the first execution of a tree is the ID of its root, and its context has the same ID. Nothing is
stored for such an execution. A record exists for a tree in another context, or one that was executed again:
a later execution is the task `<root ID>.<number>`, and the earlier one keeps the state that it ended with.
With a tree, its executions are deleted: an A2A task that was deleted does not exist.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from typing import Final, cast

from apflow.core.model.task import Json, Task
from apflow.core.service.access import may_see
from apflow.core.service.task_service import TaskService
from apflow.core.store.base import Record, TaskStore
from apflow.core.store.tree_records import KIND as TREE_KIND
from apflow.core.store.tree_records import keys_of

CONTEXT_KIND: Final = "a2a.context"  # key: hashes of the owner and its context, then of the ID of the root
MAX_EXECUTIONS: Final = 1000  # of one tree, in its record


@dataclass(frozen=True)
class Run:
    """One execution of a tree, as its record keeps it."""

    number: int  # from 1
    after: int = 0  # sequence number of the last event before the execution
    end: dict[str, Json] | None = None  # the final state; only where a later execution followed


@dataclass(frozen=True)
class Executions:
    """All executions of one tree."""

    root_id: str
    context_id: str
    tenant: str = ""
    runs: tuple[Run, ...] = (Run(1),)
    created_at: str | None = None  # of the root: a later tree may have the ID of one that was deleted

    def to_json(self) -> dict[str, Json]:
        """Return the record."""
        return asdict(self) | {"runs": [asdict(each) for each in self.runs]}

    @classmethod
    def of(cls, record: Record) -> Executions:
        """Return the executions of a record."""
        value = cast("dict[str, Json]", record.value)
        return cls(
            value["root_id"],
            value["context_id"],
            value["tenant"],
            tuple(Run(each["number"], each["after"], each["end"]) for each in value["runs"]),
            value["created_at"],
        )

    @classmethod
    def first(cls, root: Task, context_id: str = "", tenant: str = "") -> Executions:
        """Return the executions of a tree that was executed at most once."""
        return cls(root.id, context_id or root.id, tenant, created_at=created_at(root))


@dataclass(frozen=True)
class Execution:
    """One execution of a tree."""

    executions: Executions
    run: Run
    root: Task = field(compare=False)

    @property
    def task_id(self) -> str:
        """The ID of the A2A task."""
        return task_id_of(self.root.id, self.run.number)

    @property
    def context_id(self) -> str:
        """The ID of its context."""
        return self.executions.context_id

    @property
    def is_latest(self) -> bool:
        """Whether the tasks of the tree show the state of this execution."""
        return self.run.number == self.executions.runs[-1].number


def task_id_of(root_id: str, number: int) -> str:
    """Return the ID of the A2A task of an execution."""
    return root_id if number == 1 else f"{root_id}.{number}"


async def find(service: TaskService, task_id: str, tenant: str) -> Execution | None:
    """Return the execution of an A2A task; None if the caller may not see it, or it does not exist."""
    found = await _find_root(service, task_id, 1, tenant)
    if found is None:
        root_id, dot, number = task_id.rpartition(".")
        if dot and number.isascii() and number.isdigit() and len(number) < 10:
            found = await _find_root(service, root_id, int(number), tenant)
    return found


async def _find_root(service: TaskService, root_id: str, number: int, tenant: str) -> Execution | None:
    root = await visible_root(service, root_id)
    if root is None:
        return None
    executions = await read(service.db, root)
    if tenant not in ("", executions.tenant):
        return None
    run = next((each for each in executions.runs if each.number == number), None)
    return None if run is None else Execution(executions, run, root)


async def visible_root(service: TaskService, root_id: str) -> Task | None:
    """Return the root of a tree that the caller may see."""
    return _visible(service, (await service.db.get([root_id])).get(root_id))


async def read(db: TaskStore, root: Task) -> Executions:
    """Return the executions of a tree."""
    record = await db.record(TREE_KIND, _key(root.id))
    known = None if record is None else Executions.of(record)
    return known if known is not None and known.created_at == created_at(root) else Executions.first(root)


def created_at(root: Task) -> str | None:
    """Return when a root was created, as records have it."""
    return None if root.created_at is None else root.created_at.isoformat()


async def begin_first(service: TaskService, root: Task, context_id: str, tenant: str) -> Execution:
    """Return the first execution of a tree that was just created, after storing its context."""
    known = await read(service.db, root)
    if known != Executions.first(root):  # the request was repeated
        executions = known
    else:
        executions = Executions.first(root, context_id, tenant)
        if executions != known:
            await service.db.put_record(TREE_KIND, _key(root.id), executions.to_json())
            await _index(service, executions)
    return Execution(executions, executions.runs[-1], root)


async def begin_next(service: TaskService, root: Task, end: dict[str, Json] | None) -> Execution:
    """Return the execution that follows the earlier ones of a tree, after storing it.

    Args:
        root: as it was before the run was requested.
        end: the state of the latest execution; None if no run was ever requested, so that this is the first.
    """
    executions = await read(service.db, root)
    latest = executions.runs[-1]
    if end is None:
        begun = replace(latest, after=root.last_event)
        runs = (*executions.runs[:-1], begun)
    else:
        number = await _free_number(service.db, root.id, latest.number + 1)
        begun = Run(number, root.last_event)
        runs = (*executions.runs[:-1], replace(latest, end=end), begun)
    changed = replace(executions, runs=runs[-MAX_EXECUTIONS:])
    await service.db.put_record(TREE_KIND, _key(root.id), changed.to_json())
    return Execution(changed, begun, root)


async def of_context(service: TaskService, context_id: str, tenant: str) -> list[tuple[Task, Executions]]:
    """Return the roots of the trees of a context that the caller may see, with their executions.

    Without a context, those of the tenant.
    """
    prefix = f"{_scope(service, tenant)}/{_hashed(context_id)}/" if context_id else _scope(service, tenant)
    records = await service.db.records(CONTEXT_KIND, prefix=prefix)
    ids = [cast("dict[str, str]", each.value)["root_id"] for each in records]
    stored = await service.db.get(ids)
    found: list[tuple[Task, Executions]] = []
    for record, root_id in zip(records, ids, strict=True):
        root = stored.get(root_id)
        if root is None or not _is_of(known := await read(service.db, root), context_id, tenant):
            await service.db.remove_record(CONTEXT_KIND, record.key)  # the tree was deleted
        elif _visible(service, root) is not None:
            found.append((root, known))
    if context_id and context_id not in ids and not tenant:
        first = await visible_root(service, context_id)
        if first is not None and (known := await read(service.db, first)).context_id == context_id:
            found.append((first, known))
    return found


def _is_of(executions: Executions, context_id: str, tenant: str) -> bool:
    return executions.context_id == (context_id or executions.context_id) and tenant in (
        "",
        executions.tenant,
    )


def _visible(service: TaskService, task: Task | None) -> Task | None:
    if task is None or task.id != task.root_id:
        return None
    return task if may_see(service, task.user_id) else None


async def _index(service: TaskService, executions: Executions) -> None:
    place = f"{_hashed(executions.context_id)}/{_hashed(executions.root_id)}"
    value: dict[str, Json] = {"root_id": executions.root_id}
    for tenant in dict.fromkeys(("", executions.tenant)):
        await service.db.put_record(CONTEXT_KIND, f"{_scope(service, tenant)}/{place}", value)


async def _free_number(db: TaskStore, root_id: str, number: int) -> int:
    """Return the first number from this one on whose task ID is not the ID of a stored task."""
    while await db.get([task_id_of(root_id, number)]):
        number += 1
    return number


def _key(root_id: str) -> str:
    return f"{keys_of(root_id)}a2a/executions"


def _scope(service: TaskService, tenant: str) -> str:
    return _hashed(f"{service.user_id or ''}\n{tenant}")


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]
