"""The trees that the code of one attempt starts. They belong to the task.

The task lists them, and their roots name the task (`planning.child_trees`). While code waits for one, its
task holds no place, so that nesting cannot use up the limit of executor calls. The trees end before the task
does: they are cancelled with it, and released with it when the process shuts down or the tree is lost.
After a crash, the next call finds the trees by their keys, continues them, and uses results of ended ones.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from apflow.core.authoring.creator import TaskCreator, check_same_user
from apflow.core.engine.nesting import Nested, NestedDriver, NestingContext
from apflow.core.engine.store_retry import Patience
from apflow.core.errors import (
    AlreadyRunningError,
    ConflictError,
    InvalidInputError,
    KeyUsedError,
    MoveLostError,
    NotFoundError,
)
from apflow.core.extensions.running_call import Described, Tasks, array_of, check_thread
from apflow.core.model.results import RunOutcome
from apflow.core.model.status import TERMINAL, TaskStatus
from apflow.core.model.task import Json, Task
from apflow.core.model.tree import tree_outcome
from apflow.core.planning import child_trees
from apflow.core.planning.child_trees import Entry, find_by_key, find_by_root, key_of_content, with_entry
from apflow.core.planning.run_start import has_unended_run
from apflow.core.planning.run_state import Cancellation
from apflow.core.store.base import Change, Transition

if TYPE_CHECKING:
    from apflow.core.engine.approvals import TaskApproval
    from apflow.core.engine.model_calls import TaskModelCalls
    from apflow.core.engine.saved_state import SavedState
    from apflow.core.model.approval import Approval, ApprovalRequest

T = TypeVar("T")

MAX_DEPTH = 50  # trees inside each other: more is code that starts itself without end
MAX_KEY_LENGTH = 255  # characters
MIN_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.02, 1.0  # between checks whether another process has ended a tree


class ChildTrees:
    """The trees of one attempt of a task. It is the `RunningCall` of the attempt's code."""

    __slots__ = (
        "_approval", "_cancellation", "_context", "_counts", "_digests", "_ended", "_entries", "_generation",
        "_lock", "_model_calls", "_nested", "_number", "_saved_state", "_secrets", "_seen", "_task",
        "_waiting", "is_live", "is_released",
    )  # fmt: skip

    def __init__(
        self, context: NestingContext, task: Task, cancellation: Cancellation, secrets: Sequence[str] = ()
    ) -> None:
        self._context, self._task, self._cancellation = context, task, cancellation
        self._secrets = secrets  # of the attempt
        self._model_calls: TaskModelCalls | None = None  # set by the first call of a model
        self._approval: TaskApproval | None = None  # set by the first request for an approval
        self._saved_state: SavedState | None = None  # set by the first use
        self._number, self._generation = task.attempts, task.generation
        self._entries: Sequence[Entry] = task.child_trees or ()
        self.is_live = True
        self.is_released = False  # the code was asked to end, and another process continues the tree
        self._waiting = 0  # pieces of code that wait for a tree
        self._nested: set[Nested] = set()
        self._lock: asyncio.Lock | None = None  # in the loop of the run: guards the entries
        self._counts: Counter[str] | None = None  # of trees created from equal arrays
        self._digests: dict[str, str] | None = None  # key -> content of the tasks given with it
        self._seen: set[str] | None = None  # roots that this attempt has run
        self._ended: set[str] | None = None  # roots whose runs have ended

    @property
    def task(self) -> Task:
        """The task, as its run has it."""
        return self._context.tasks.get(self._task.id, self._task)

    @property
    def written_by(self) -> list[dict[str, Json]] | None:
        """The authors of the tree of the task."""
        root = self._context.tasks.get(self._task.root_id)
        return None if root is None else root.written_by

    @property
    def has_trees(self) -> bool:
        """Whether the task has started or created any tree."""
        return bool(self._entries or self._nested)

    def uses(self, store: object) -> bool:
        """Return whether the tree of the task is in this store."""
        return store is self._context.driver.store

    @property
    def model_calls(self) -> TaskModelCalls:
        """The account of the calls of language models that the code makes."""
        if self._model_calls is None:
            from apflow.core.engine.model_calls import TaskModelCalls  # few trees call models

            self._model_calls = TaskModelCalls(
                self._context, self._task, self._without_place, self._park, self._secrets
            )
        return self._model_calls

    @property
    def model_usage(self) -> Json:
        """What these calls used, see `UsageTotals.to_dict`; None if there was no call."""
        calls = self._model_calls
        return None if calls is None or calls.totals is None else calls.totals.to_dict()

    async def ask_approval(self, request: ApprovalRequest) -> Approval:
        """Ask for an approval and wait for the decision; see `extensions.approval.ask_approval`."""
        self._check_live()
        return await self._in_run_loop(self._ask_approval(request))

    async def _ask_approval(self, request: ApprovalRequest) -> Approval:
        if self._approval is None:
            from apflow.core.engine.approvals import TaskApproval  # few trees ask

            self._approval = TaskApproval(
                self._context, self.task, self._cancellation, self._without_place, self._park, self._secrets
            )
        return await self._approval.ask(request)

    # --- the state of the attempt -----------------------------------------------------------------

    @property
    def is_continued(self) -> bool:
        """Whether another attempt continues the work of the code; see `ExecutableTask.is_continued`."""
        return self._releases()

    async def saved_state(self) -> Json:
        """Return what was saved for this attempt; see `ExecutableTask.saved_state`."""
        return await self._in_run_loop(self._state().load())

    async def save_state(self, state: Json) -> None:
        """Save a state for the attempt that continues this one; see `ExecutableTask.save_state`."""
        self._check_live()
        await self._in_run_loop(self._state().save(state))

    def saved_state_sync(self) -> Json:
        """Do what `saved_state` does, and block the calling thread meanwhile."""
        check_thread("saved_state")
        return asyncio.run_coroutine_threadsafe(self.saved_state(), self._context.loop).result()

    def save_state_sync(self, state: Json) -> None:
        """Do what `save_state` does, and block the calling thread meanwhile."""
        check_thread("save_state")
        asyncio.run_coroutine_threadsafe(self.save_state(state), self._context.loop).result()

    def _state(self) -> SavedState:
        if self._saved_state is None:
            from apflow.core.engine.saved_state import SavedState  # few tasks save any

            self._saved_state = SavedState(self._context, self._task, self._secrets)
        return self._saved_state

    # --- creating trees ----------------------------------------------------------------------------

    async def run_child(self, tasks: Tasks | Described, key: str | None) -> RunOutcome:
        """Create a tree that belongs to the task, or find it, and run it; see `ExecutableTask.run_child`."""
        array = array_of(tasks)
        self._check_key(key, array)
        self._check_live()
        creator = TaskCreator(self._context.driver.store)
        node = await creator.create_in_call(self, array, key=key, is_run=True)
        root_id = node.task.id
        tasks_of_child = await self.nest(self._context.driver, root_id, is_by_key=key is not None) or []
        return tree_outcome(tasks_of_child, root_id)

    def run_child_sync(self, tasks: Tasks | Described, key: str | None) -> RunOutcome:
        """Do what `run_child` does, and block the calling thread meanwhile."""
        check_thread("run_child")
        running = asyncio.run_coroutine_threadsafe(self.run_child(tasks, key), self._context.loop)
        return running.result()

    async def create_once(
        self,
        tasks: Tasks,
        find: Callable[[str], Awaitable[T | None]],
        create: Callable[[Callable[[str], Sequence[Transition]]], Awaitable[tuple[str, T]]],
        *,
        key: str | None = None,
        is_run: bool = False,
    ) -> T:
        """Create a tree, unless an interrupted call of the same task has created it.

        Args:
            find: returns the tree of a root id, or None if it has been deleted.
            create: creates the tree, with the transitions that a function returns for the id of its root.
            key: identifies the tree within the task; by default its content, and how many trees of equal
                content the attempt has created before.
            is_run: whether the task is about to run the tree.
        """
        return await self._in_run_loop(self._create_once(tasks, find, create, key, is_run))

    async def _create_once(
        self,
        tasks: Tasks,
        find: Callable[[str], Awaitable[T | None]],
        create: Callable[[Callable[[str], Sequence[Transition]]], Awaitable[tuple[str, T]]],
        key: str | None,
        is_run: bool,
    ) -> T:
        async with self._guard():
            key = self._next_key(tasks) if key is None else key
            entry = find_by_key(self._entries, key, self._generation)
            found = None if entry is None else await find(entry["id"])
            if found is not None:
                return found
            if len(self._entries) >= child_trees.MAX_CHILD_TREES:
                if is_run:
                    raise InvalidInputError(
                        f"Task {self._task.id!r} has started {child_trees.MAX_CHILD_TREES} trees, the "
                        "maximum. Put the work into fewer trees with more tasks."
                    )
                _, made = await create(lambda _: ())  # it is not found again after a crash
                return made
            attempt = self._number if is_run else None

            def entries_with(root_id: str) -> list[Entry]:
                new = {"id": root_id, "key": key, "generation": self._generation, "attempt": attempt}
                return with_entry(self._entries, new)

            root_id, made = await self._fenced(create(lambda each: self._link(entries_with(each))))
            self._take(entries_with(root_id))
            return made

    def _next_key(self, tasks: Tasks) -> str:
        content = key_of_content(tasks)
        if self._counts is None:
            self._counts = Counter()
        self._counts[content] += 1
        return f"{content}:{self._counts[content]}"

    def _check_key(self, key: str | None, tasks: Tasks) -> None:
        if key is None:
            return
        if not isinstance(cast(object, key), str) or not key.strip() or len(key) > MAX_KEY_LENGTH:
            raise InvalidInputError(f"key must be a string of 1 to {MAX_KEY_LENGTH} characters, not {key!r}.")
        if key.startswith(":"):
            raise InvalidInputError(f"key is {key!r}: keys that begin with ':' are reserved for apflow.")
        if self._digests is None:
            self._digests = {}
        content = key_of_content(tasks)
        if self._digests.setdefault(key, content) != content:
            raise KeyUsedError(key)

    # --- running trees -----------------------------------------------------------------------------

    async def nest(
        self,
        driver: NestedDriver,
        root_id: str,
        *,
        named_id: str | None = None,
        force: bool = False,
        on_read: Callable[[list[Task]], object] | None = None,
        is_by_key: bool = False,
    ) -> list[Task] | None:
        """Run a stored tree as a part of the task, and return its tasks at the end.

        Args:
            is_by_key: the tree stands for one piece of work of the attempt, which runs once.

        Raises:
            InvalidInputError: the tree belongs to another user, or trees are nested too deeply.
            ConflictError: the task has ended, or its cancellation is requested.
        """
        self._check_depth()
        before = None
        if self.uses(driver.store):
            before = await self._in_run_loop(self._adopt(root_id, is_by_key=is_by_key))
        nested = Nested(root_id)
        self._nested.add(nested)
        try:
            await self._in_run_loop(self._lend())
            try:
                tasks = await self._drive(driver, root_id, before, named_id, force, on_read)
            except asyncio.CancelledError:
                self._waiting -= 1
                raise
            except BaseException:
                await self._in_run_loop(self._take_back())
                raise
            await self._in_run_loop(self._take_back())
        finally:
            self._nested.discard(nested)
            nested.done.set_result(None)
        return tasks

    async def _adopt(self, root_id: str, *, is_by_key: bool) -> Entry | None:
        """Link a stored tree to the task; return its entry if an earlier call may have run it."""
        task = self.task
        async with self._guard():
            before = find_by_root(self._entries, root_id, self._generation)
            if self._seen is None:
                self._seen = set()
            is_first = root_id not in self._seen
            self._seen.add(root_id)
            has_run = before is not None and before["attempt"] is not None and (is_first or is_by_key)
            if before is not None and before["attempt"] == self._number:
                return before if has_run else None
            root = (await self._context.driver.store.get([root_id])).get(root_id)
            if root is None:
                raise NotFoundError(root_id)
            is_foreign_run = has_unended_run(root) and root.spawned_by != task.id
            if root_id == task.root_id or is_foreign_run:
                return None  # the driver refuses it, or finishes the run that a dead process left
            if before is None and len(self._entries) >= child_trees.MAX_CHILD_TREES:
                return None  # it ends with this attempt, but is not found again after a crash
            check_same_user(task, [root])
            entries = with_entry(self._entries, self._entry(root_id, before))
            change = Change(moves=self._link(entries, root_id), is_strict=True)
            patiently = Patience(f"Task {task.id}", self._context.patience)
            await self._fenced(patiently(lambda: self._context.driver.store.write(change)))
            self._take(entries)
            return before if has_run else None

    def _entry(self, root_id: str, before: Entry | None) -> Entry:
        key = None if before is None else before["key"]
        return {"id": root_id, "key": key, "generation": self._generation, "attempt": self._number}

    async def _drive(
        self,
        driver: NestedDriver,
        root_id: str,
        before: Entry | None,
        named_id: str | None,
        force: bool,
        on_read: Callable[[list[Task]], object] | None,
    ) -> list[Task] | None:
        """Run the tree, or wait until another owner of its run has ended it or has died."""
        wait, is_own = MIN_WAIT_SECONDS, before is not None
        while True:
            if self._context.is_draining:
                await self._park()
            resume_only = False
            if is_own and before is not None:
                stored = await driver.store.existing_tree(root_id)
                resume_only = has_unended_run(_root(stored, root_id))
                if not resume_only and _has_ended(stored, root_id) and before["attempt"] == self._number:
                    if on_read is not None:
                        on_read(stored)
                    self._note_end(root_id)
                    return stored  # a call before a crash has run it
            try:
                tasks = await driver.run_nested(
                    root_id,
                    depth=self._context.depth + 1,
                    releases=self._releases,
                    named_id=named_id,
                    force=force,
                    resume_only=resume_only,
                    on_read=on_read,
                )
            except AlreadyRunningError:
                if not is_own:
                    raise
            else:
                if not tasks or not has_unended_run(_root(tasks, root_id)):
                    self._note_end(root_id)
                    return tasks
                # A drain has released it.
                before, is_own = before or self._entry(root_id, None), True
            await asyncio.sleep(wait)
            wait = min(MAX_WAIT_SECONDS, wait * 2)

    def _note_end(self, root_id: str) -> None:
        if self._ended is None:
            self._ended = set()
        self._ended.add(root_id)

    def _releases(self) -> bool:
        """Return whether a tree is released when the code that waits for it is cancelled.

        Otherwise it is cancelled. A task of effect `once` does not run again to continue the tree.
        """
        if self._cancellation.is_requested or not (self.is_released or self._context.is_over()):
            return False
        return self._context.effect(self.task) != "once"

    async def _park(self) -> None:
        """End the attempt, because the process shuts down, and wait for the end."""
        self._context.loop.call_soon_threadsafe(self._context.end_attempt, self._task.id)
        await asyncio.Event().wait()

    def drain(self, seconds: float) -> bool:
        """Drain the trees that code waits for; return whether it waits for any."""
        if self._approval is not None:
            self._approval.wake()
        if self._context.effect(self.task) == "once":
            return False
        for each in list(self._nested):
            self._context.driver.drain_tree(each.root_id, seconds)
        return bool(self._nested)

    @asynccontextmanager
    async def _without_place(self) -> AsyncGenerator[None]:
        """Return the place of the task among the executor calls while the context lasts."""
        await self._lend()
        try:
            yield
        except asyncio.CancelledError:
            self._waiting -= 1
            raise
        except BaseException:
            await self._take_back()
            raise
        await self._take_back()

    async def _lend(self) -> None:
        self._waiting += 1
        self._context.places.lend(self.task, self)

    async def _take_back(self) -> None:
        self._waiting -= 1
        if self._waiting == 0 and self.is_live:
            await self._context.places.take_back(self.task, self, lambda: self._waiting == 0 and self.is_live)

    # --- the end of the attempt --------------------------------------------------------------------

    async def end(self, seconds: float) -> None:
        """End the trees that the code has left: cancel them, unless they are released with the task.

        Args:
            seconds: how long to wait for code that waits for trees.
        """
        self.is_live = False
        left = list(self._nested)
        for each in left:
            each.cancel()
        if left:
            await asyncio.wait([asyncio.wrap_future(each.done) for each in left], timeout=seconds)
        if self._releases() or (self.is_released and self._context.effect(self.task) != "once"):
            return
        driver = self._context.driver
        ended = self._ended or ()
        ids = [each for each in child_trees.ids_of_children([self.task]) if each not in ended]
        roots = await driver.store.get(ids) if ids else {}
        for root in roots.values():
            is_open = has_unended_run(root) or (
                root.status is TaskStatus.PENDING and root.run_ended_at is None
            )
            if is_open and root.spawned_by == self._task.id:
                await driver.cancel_tree(
                    root.id, f"Task {self._task.name!r}, which started the tree, has ended."
                )

    # --- helpers -----------------------------------------------------------------------------------

    def _guard(self) -> asyncio.Lock:
        if self._lock is None:
            self._lock = asyncio.Lock()
        return self._lock

    def _link(self, entries: Sequence[Entry], child_id: str | None = None) -> list[Transition]:
        return child_trees.link(self.task, self._context.owner, self._number, entries, child_id)

    def _take(self, entries: list[Entry]) -> None:
        self._entries = self.task.child_trees = entries

    async def _fenced(self, writing: Awaitable[T]) -> T:
        try:
            return await writing
        except MoveLostError as error:
            raise ConflictError(
                f"Task {self._task.name!r} ({self._task.id}) cannot start a tree: it has ended, its "
                "cancellation is requested, or another process runs it."
            ) from error

    async def _in_run_loop(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the event loop of the run. Code in threads may use another loop."""
        if asyncio.get_running_loop() is self._context.loop:
            return await coroutine
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._context.loop))

    def _check_live(self) -> None:
        if not self.is_live:
            raise ConflictError(f"Task {self._task.id!r} has ended: its code can no longer use it.")

    def _check_depth(self) -> None:
        if self._context.depth >= MAX_DEPTH:
            raise InvalidInputError(
                f"Task {self._task.name!r} ({self._task.id}) is inside {MAX_DEPTH} trees that started each "
                "other, the maximum. Check that the tree does not start itself."
            )


def _root(tasks: Sequence[Task], root_id: str) -> Task:
    return next(task for task in tasks if task.id == root_id)


def _has_ended(tasks: Sequence[Task], root_id: str) -> bool:
    return _root(tasks, root_id).run_ended_at is not None and all(task.status in TERMINAL for task in tasks)
