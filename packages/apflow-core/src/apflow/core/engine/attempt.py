"""One call of a task's executor, from its inputs to its outcome.

The attempt itself stores nothing: the run writes its start before the call and its outcome after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import ceil
from typing import Any, cast

from apflow.core.authoring.capability_check import check_executor, check_values
from apflow.core.capture.task_log import TRACEBACK, TaskLog, current_log
from apflow.core.concurrency.containment import (
    INSIST_SECONDS,
    forget_cancellations,
    log_error,
    must_pass,
    read_attribute,
    show_traceback,
)
from apflow.core.concurrency.exit_fence import enter_code, outside_code
from apflow.core.engine.child_trees import ChildTrees
from apflow.core.engine.remote_call import RemoteCall
from apflow.core.engine.run_context import RunContext
from apflow.core.engine.served_requests import ServedRunningCall
from apflow.core.events.progress import ProgressQueue
from apflow.core.extensions import registry
from apflow.core.extensions.calling import call_cancel
from apflow.core.extensions.executor import ExecutableTask, overrides_cancel
from apflow.core.extensions.executor_call import ExecutorCall, Needed, columns_of
from apflow.core.extensions.runner import Runner, timeout_message
from apflow.core.extensions.running_call import current_call
from apflow.core.model.resources import Needs
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json, Policy, Task, to_json
from apflow.core.payload.inputs import build_inputs
from apflow.core.payload.json_value import CONTAINERS, clean_text, copy_json
from apflow.core.payload.schema import InputSchema, compile_schema, narrowed
from apflow.core.payload.secrets import redact, resolve
from apflow.core.permissions.capability_policy import capability_policy
from apflow.core.permissions.origin import Origin, as_json, authors_of, begin_work_for, end_work_for
from apflow.core.planning.outcome import Outcome, failed, read_exception, read_result, with_usage
from apflow.core.planning.run_state import KEPT_OF_A_CANCELLED, Call
from apflow.core.process.error_text import describe_error
from apflow.core.process.traceback_text import MAX_TRACEBACK, shortened

logger = logging.getLogger(__name__)

CANCELLED = TaskStatus.CANCELLED
NO_NEEDS = Needs({}, {})


class Attempt(Call):
    """One attempt of one task.

    Args:
        ended: called once, when its code has ended.
    """

    __slots__ = (
        "asking", "context", "ended", "executor", "has_answered", "has_begun", "inputs", "is_ended", "log",
        "queue", "remote", "secrets", "trees", "waiter",
    )  # fmt: skip

    def __init__(self, context: RunContext, task: Task, ended: Callable[[Attempt], object]) -> None:
        super().__init__(task)
        self.context, self.ended = context, ended
        self.executor: ExecutableTask | None = None
        self.inputs: dict[str, Json] = {}  # the inputs of the call, with secrets as references
        self.secrets: list[str] = []
        self.has_begun = False
        self.is_ended = False  # its code was asked to end from outside
        self.has_answered = False  # the executor's `cancel` has returned or does not exist
        self.asking: asyncio.Event | None = None  # set while a coroutine waits for `cancel` to return
        self.log: TaskLog | None = None  # set while its code runs, and after
        self.queue: ProgressQueue | None = None
        self.waiter: asyncio.Task[Any] | None = None  # the asyncio task that runs its code
        self.trees: ChildTrees | ServedRunningCall | None = None  # the trees that its code starts
        self.remote: RemoteCall | None = None  # set while another process calls the executor

    async def run(self, within: asyncio.Task[Any]) -> None:
        """Build the inputs, call the executor and report the outcome. `within`: the current asyncio task."""
        if self.has_begun:
            return  # it was ended before it started
        self.has_begun = True
        self.waiter = within
        outcome = None
        try:
            outcome = await self._outcome(within)
        finally:
            self.waiter = None
            self._close_log(outcome)
            if self.outcome is None:  # otherwise it was abandoned
                self.outcome = outcome
                self.ended(self)
        if within.cancelling() and not self.context.is_over():
            await forget_cancellations(within)

    def end(self, why: str) -> None:
        """End the code from outside."""
        if self.outcome is not None:
            return
        self.is_ended = True
        if self.trees is not None:
            self.trees.is_released = not self.is_cancelled
        if self.remote is not None and not self.is_cancelled:
            self.remote.release()
        if self.waiter is not None:
            self.waiter.cancel(why)
            return
        if self.has_begun:
            return  # its code has ended
        self.has_begun = True  # it must not start later
        if self.is_cancelled:
            self.outcome = self.cancelled()
        self.ended(self)

    def leave_behind(self, outcome: Outcome) -> None:
        """Abandon code that does not end after repeated requests, and continue with an outcome."""
        if self.outcome is not None:
            return
        logger.error(
            "The code of task %s (%s) ignores its cancellation: the task ends without it, and it still runs.",
            self.task.id,
            self.task.executor,
        )
        self._close_log(None)
        self.outcome = outcome
        self.ended(self)

    def was_ended(self) -> bool:
        """Whether its code was asked to end, by itself or with its run."""
        return self.is_ended or self.context.is_over()

    async def _outcome(self, within: asyncio.Task[Any]) -> Outcome:
        """Return the outcome of the call. Raises only `CancelledError`, if the attempt is ended."""
        try:
            outcome = await self._call()
        except BaseException as error:
            if must_pass(error, within, self.was_ended) and not self.is_cancelled:
                raise  # the run or this process is ending
            outcome = read_exception(error)
        finally:
            self.context.instances.pop(self.task.id, None)
            if self.queue is not None:
                self.queue.close()
        is_cancelled = self.is_cancelled
        if is_cancelled:
            await self._wait_for_answer()
        outcome = self._storable(outcome)
        key = self.context.cache_keys.pop(self.task.id, None)
        if key is not None and outcome.status is TaskStatus.COMPLETED and outcome.cached_from is None:
            outcome = replace(outcome, cache_key=key)
        outcome = self.cancelled(outcome) if is_cancelled else outcome
        usage = self.trees.model_usage if self.trees is not None else None
        return outcome if usage is None else with_usage(outcome, usage)

    def _storable(self, outcome: Outcome) -> Outcome:
        """Return the outcome without secrets, and with a traceback of limited length."""
        if not self.secrets and outcome.traceback is None:
            return outcome
        shown = redact(outcome.traceback, self.secrets)  # first: a part of a secret is not recognized
        return Outcome(
            outcome.status,
            redact(outcome.result, self.secrets),
            redact(outcome.error, self.secrets),
            redact(outcome.error_type, self.secrets),
            outcome.size,
            None if shown is None else shortened(shown, MAX_TRACEBACK),
        )

    async def _wait_for_answer(self) -> None:
        """Wait, within the grace period, for the result of the executor's `cancel`."""
        if self.has_answered:
            return
        self.asking = asyncio.Event()
        try:
            async with asyncio.timeout(self.context.settings.cancel_grace):
                await self.asking.wait()
        except (TimeoutError, asyncio.CancelledError):
            logger.debug("cancel() of the executor of task %s returned no result in time", self.task.id)

    async def cancel(self, *, is_forced: bool) -> None:
        """End the code: call the executor's `cancel`, and after the grace period cancel it from outside."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self.context.settings.cancel_grace
        await self.ask_to_end(until)
        self.expect_no_answer()
        is_given_time = not is_forced and self.is_cancelable()
        if is_given_time and self.waiter is not None and self.outcome is None:
            await asyncio.wait({self.waiter}, timeout=max(0.0, until - loop.time()))
        await self.insist("cancelled by request")

    def expect_no_answer(self) -> None:
        """End the wait for the result of the executor's `cancel`: it is there, or does not come."""
        self.has_answered = True
        if self.asking is not None:
            self.asking.set()

    async def ask_to_end(self, until: float) -> None:
        """Call the executor's `cancel`, if it has one, and wait for it until a time of the event loop."""
        if self.remote is not None:
            seconds = max(0.0, until - asyncio.get_running_loop().time())
            self.answer = self._readable(await self.remote.ask_to_end(self.message, seconds))
        elif self.executor is not None and self.was_called and overrides_cancel(self.executor):
            await self._ask(self.executor, until)

    def is_cancelable(self) -> bool:
        """Whether the code ends by itself within the grace period after its cancellation is requested."""
        if self.remote is not None:
            return self.remote.is_cancelable
        try:
            return self.executor is not None and read_attribute(self.executor, "cancelable") is True
        except Exception as error:  # noqa: BLE001 - the border to users' code
            logger.error(  # noqa: TRY400 - the traceback may hold secrets
                "`cancelable` of %s cannot be read: %s",
                self.task.executor,
                redact(describe_error(error), self.secrets),
            )
            return False

    async def _ask(self, executor: ExecutableTask, until: float) -> None:
        """Call the executor's `cancel` and wait for it until a time of the event loop's clock.

        The call runs in a separate asyncio task, which is abandoned if it does not end.
        """
        is_late = False

        async def ask() -> None:
            current = asyncio.current_task()
            enter_code()
            current_log.set(self.log)
            try:
                self.answer = self._readable(await call_cancel(executor))
            except BaseException as error:
                if must_pass(error, current, lambda: is_late or self.context.is_over()):
                    raise
                shown = redact(show_traceback(error), self.secrets)
                logger.error(  # noqa: TRY400 - the traceback may hold secrets
                    "cancel() of %s failed; its code is cancelled from outside.\n%s",
                    self.task.executor,
                    shown,
                )

        asking = self.context.code.create_task(ask(), name=f"apflow:ask:{self.task.id}")
        await asyncio.wait({asking}, timeout=max(0.0, until - asyncio.get_running_loop().time()))
        if asking.done():
            return
        is_late = True
        logger.error(
            "cancel() of %s takes longer than %g s; its code is cancelled from outside.",
            self.task.executor,
            self.context.settings.cancel_grace,
        )
        asking.cancel("the grace period is over")
        await asyncio.wait({asking}, timeout=INSIST_SECONDS)

    def _readable(self, answer: object) -> Json:
        """Return the part of the result of an executor's `cancel` that is stored, as plain JSON."""
        if not isinstance(answer, dict):
            return None
        answer = cast("dict[str, Json]", answer)
        given = {name: answer[name] for name in KEPT_OF_A_CANCELLED if answer.get(name) is not None}
        read = self._read(redact(given, self.secrets), has_schema=False)
        return read.result if read.status is TaskStatus.COMPLETED else None

    async def insist(self, why: str) -> None:
        """Cancel the code, repeatedly if it suppresses the cancellation; abandon it if it never ends."""
        waiter, settings = self.waiter, self.context.settings
        self.end(why)
        for _ in range(ceil((settings.cancel_grace + settings.cancel_wait) / INSIST_SECONDS)):
            if waiter is None or self.outcome is not None:
                return
            await asyncio.wait({waiter}, timeout=INSIST_SECONDS)
            if self.outcome is None:
                waiter.cancel(why)
        self.leave_behind(self.cancelled())

    async def _call(self) -> Outcome:
        context, task = self.context, self.task
        cached = context.cached.pop(task.id, None)
        if cached is not None:
            return cached
        if task.executor is None:
            return failed(
                "ExecutorNotFound", f"No executor is called {task.name!r}. {registry.advise(task.name)}"
            )
        entry, needs = self._entry_and_needs(task.executor)
        runner = context.runner_of(entry, needs)
        if runner is not None or entry is None:
            assert runner is not None  # it makes what this process cannot
            return await self._call_elsewhere(runner, task.executor, entry, needs)
        if needs.is_empty:
            return await self._call_here(entry)
        async with context.using(task, needs):
            return await self._call_here(entry)

    def _entry_and_needs(self, executor_id: str) -> tuple[registry.ExecutorEntry | None, Needs]:
        """Return the executor, None if only workers of the same store have it, and what its call needs."""
        entry, own = self.context.entry_here(executor_id), self.task.policy.get("resources")
        if entry is None:
            return None, Needs.of(own)
        return entry, Needs.of(entry.resources, own) if entry.resources or own else NO_NEEDS

    async def _call_here(self, entry: registry.ExecutorEntry) -> Outcome:
        """Call the executor in this process."""
        context, task = self.context, self.task
        origin = Origin(
            authors_of(context.tasks[task.root_id]), entry.executor_id, can_bind=entry.uses_net_policy
        )
        log_token, origin_token = current_log.set(self._open_log()), begin_work_for(origin)
        try:
            return await self._call_executor(entry, origin)
        finally:
            end_work_for(origin_token)
            current_log.reset(log_token)

    def _open_log(self) -> TaskLog | None:
        context, task = self.context, self.task
        if context.log_limits is not None:
            self.log = TaskLog(
                task.root_id,
                task.id,
                task.attempt_number,
                self.generation,
                context.log_limits,
                context.logs,
                partial(_storable_line, self.secrets),  # no reference to the attempt, which would be a cycle
                context.position,
            )
        return self.log

    def _close_log(self, outcome: Outcome | None) -> None:
        """Add the traceback of a failure to the log, and close it."""
        if self.log is None:
            return
        if outcome is not None and outcome.traceback is not None:
            self.log.add(outcome.traceback, logging.ERROR, TRACEBACK)
        self.log.close()

    async def _call_executor(self, entry: registry.ExecutorEntry, origin: Origin) -> Outcome:
        context, task = self.context, self.task
        self._check_executor()
        executor = self.executor = entry.make(self._params(origin))
        schema, own_schema = entry.schema_of(executor), task.schemas.get("input_schema")
        if own_schema:
            schema = narrowed(compile_schema(own_schema), schema)
        inputs = await self._inputs(schema, origin)
        self._prepare(executor)
        if self.is_cancelled:
            return Outcome(CANCELLED, None, None, None)
        policy = Policy.from_json(task.policy)
        self.was_called = True
        if task.policy.get("limit"):
            self._begin_limit()
        trees = self.trees = executor.running_call = context.open_call(task, self.cancellation, self.secrets)
        token = current_call.set(trees)
        leaving = self._leave_later(policy.timeout) if policy.timeout is not None else None
        try:
            value = await context.runner.call(executor, inputs, policy.timeout)
            return self._read(value, reports_status=entry.reports_status)
        finally:
            current_call.reset(token)
            trees.is_live = False
            if trees.has_trees:
                await self._end_trees(trees)
            if leaving is not None:
                leaving.cancel()

    async def _call_elsewhere(
        self, runner: Runner, executor_id: str, entry: registry.ExecutorEntry | None, needs: Needs
    ) -> Outcome:
        """Have another process call the executor. Its inputs are built there, unless pre-hooks need them.

        Args:
            entry: the executor; None if this process does not have it.
        """
        context, task = self.context, self.task
        self._check_executor()
        self._check_values(task.params, task.params, "params")
        inputs = await self._inputs_for_hooks(entry) if context.hooks.has_pre else None
        import_path = None if entry is None else entry.import_path
        if self.is_cancelled:
            return Outcome(CANCELLED, None, None, None)
        timeout = Policy.from_json(task.policy).timeout
        leaving: asyncio.TimerHandle | None = None

        def begin() -> None:
            nonlocal leaving
            self.was_called = True
            if leaving is None and task.policy.get("limit"):
                self._begin_limit()
            if leaving is None and timeout is not None:
                leaving = self._leave_later(timeout)

        trees = self.trees = ChildTrees(context.nesting, task, self.cancellation, self.secrets)
        self._open_log()
        remote = self.remote = RemoteCall(
            runner,
            task.id,
            lambda call_id: self._describe(call_id, executor_id, import_path, needs, inputs),
            lambda: context.effect(task),
            trees,
            self._open_queue(),
            self.log,
            begin,
        )
        try:
            with outside_code():
                outcome = await remote.run()
        finally:
            self.remote = None
            trees.is_live = False
            if trees.has_trees:
                await self._end_trees(trees)
            if leaving is not None:
                leaving.cancel()
        self.inputs = remote.inputs or inputs or {}
        if outcome.status is not TaskStatus.COMPLETED:
            return outcome
        return self._read(outcome.result, has_schema=False, reports_status=False)

    def _describe(
        self,
        call_id: str,
        executor_id: str,
        import_path: str | None,
        needs: Needs,
        inputs: dict[str, Json] | None,
    ) -> ExecutorCall:
        """Return the call as plain data, with the given inputs, or with all that they are built from."""
        task, context = self.task, self.context
        columns = columns_of(task)
        needed: list[Needed] = []
        if inputs is None:
            found = (context.tasks.get(each["id"]) for each in task.dependencies)
            needed = [
                Needed(id=each.id, key=each.key, result=each.result)
                for each in found
                if each is not None and each.status is TaskStatus.COMPLETED
            ]
        else:
            columns |= {"inputs": inputs, "dependencies": []}
        root = context.tasks[task.root_id]
        policy = capability_policy(context.settings)
        authors = authors_of(root)  # those that this process knows, whatever settings the other one has
        return ExecutorCall(
            id=call_id,
            executor_id=executor_id,
            import_path=import_path,
            task=columns,
            needed=needed,
            written_by=None if authors is None else as_json(authors),
            scheduled_at=to_json(root.run_requested_at),
            allowed_capabilities=None if policy is None else policy.to_json(),
            resources=needs.to_json(),
            wants_inputs=context.hooks.has_post,
        )

    async def _inputs_for_hooks(self, entry: registry.ExecutorEntry | None) -> dict[str, Json]:
        """Return the inputs for a call elsewhere, with what pre-hooks have changed, and with references to
        secrets.
        """
        schema, own_schema = None, self.task.schemas.get("input_schema")
        if entry is not None:
            schema = entry.schema_of(entry.make())
        if own_schema:
            schema = narrowed(compile_schema(own_schema), schema)
        inputs, _ = self._built_inputs(schema)
        return await self._after_pre_hooks(inputs)

    def _check_executor(self) -> None:
        if self.context.is_restricted:
            for policy in self.context.policies():
                check_executor(self.task, policy)

    def _check_values(self, values: Json, written: Json, place: str) -> None:
        if self.context.is_restricted:
            for policy in self.context.policies():
                check_values(self.task, values, written, place, policy)

    def _begin_limit(self) -> None:
        if self.context.nests is not None:
            self.context.nests.places.begin(self.task)

    def _leave_later(self, timeout: float) -> asyncio.TimerHandle:
        """Leave the code behind if it does not end when its timeout is over."""
        settings = self.context.settings
        late = failed("TimeoutError", f"{timeout_message(timeout)} Its code does not end.")
        patience = timeout + settings.cancel_grace + settings.cancel_wait
        return self.context.loop.call_later(patience, self.leave_behind, late)

    def _params(self, origin: Origin) -> dict[str, Json]:
        """Return the params of the task for the executor, with its secrets."""
        task = self.task
        if not task.params:
            return {}
        params, secrets = resolve(task.params, origin.permit)
        self.secrets.extend(secrets)
        self._check_values(params, task.params, "params")
        return cast("dict[str, Json]", params)

    async def _end_trees(self, trees: ChildTrees | ServedRunningCall) -> None:
        """End the trees that the code has left, however often the attempt is cancelled meanwhile."""
        settings = self.context.settings
        ending = asyncio.create_task(trees.end(settings.cancel_grace), name=f"apflow:trees:{self.task.id}")
        while not ending.done():
            try:
                await asyncio.wait({ending})
            except asyncio.CancelledError:  # it was cancelled anyway, or its trees would be left running
                continue
        if not ending.cancelled() and (error := ending.exception()) is not None:
            log_error(logger, "The trees of task %s could not be ended.", self.task.id, error=error)

    def _read(self, value: Json, *, has_schema: bool = True, reports_status: bool = True) -> Outcome:
        if type(value) not in CONTAINERS and asyncio.iscoroutine(value):
            value.close()  # a coroutine that was not awaited is not valid JSON
        settings = self.context.settings
        schema = self.task.schemas.get("output_schema") if has_schema else None
        return read_result(
            value,
            output_schema=compile_schema(schema) if schema else None,
            max_bytes=settings.max_result_bytes,
            max_depth=settings.max_json_depth,
            reports_status=reports_status,
        )

    async def _inputs(self, schema: InputSchema | None, origin: Origin) -> dict[str, Json]:
        """Return the inputs for the call. `self.inputs` keeps the inputs with secrets as references."""
        inputs, results = self._built_inputs(schema)
        if self.context.hooks.has_pre:
            inputs = await self._after_pre_hooks(inputs)
        clear, secrets = resolve(inputs, origin.permit)
        self.secrets.extend(secrets)
        if schema is not None:
            clear = schema.validate(clear)
        self._check_values(clear, inputs, "inputs")
        self.inputs = inputs if secrets else clear
        if self.executor is not None:
            self.executor.dependency_results = results
        return cast("dict[str, Json]", clear)

    def _built_inputs(self, schema: InputSchema | None) -> tuple[dict[str, Json], dict[str, Json]]:
        """Return the inputs before hooks and secrets, and the results of the dependencies by id."""
        task, tasks = self.task, self.context.tasks
        results: dict[str, Json] = {}
        names: dict[str, str] = {}
        for dependency in task.dependencies:
            needed = tasks.get(dependency["id"])
            if needed is not None and needed.status is TaskStatus.COMPLETED:
                results[needed.id] = copy_json(needed.result)
                if "name" in dependency or needed.key != needed.id:
                    names[needed.id] = dependency.get("name", needed.key)
        most = self.context.settings.max_referenced_bytes
        root = tasks.get(task.root_id)
        requested_at = None if root is None else root.run_requested_at
        return build_inputs(task, results, names, schema, most, scheduled_at=requested_at), results

    async def _after_pre_hooks(self, inputs: dict[str, Json]) -> dict[str, Json]:
        """Call the pre-hooks, and return the inputs that they leave."""
        shown = self.task.copy()
        shown.inputs = inputs
        await self.context.hooks.run_pre(shown, self.was_ended)
        return shown.inputs

    def _open_queue(self) -> ProgressQueue:
        context = self.context
        self.queue = ProgressQueue(
            self.task,
            context.publish,
            context.note_progress,
            partial(redact, secrets=self.secrets),
            context.settings.progress_interval,
            context.loop,
            self.log,
        )
        return self.queue

    def _prepare(self, executor: ExecutableTask) -> None:
        """Set the attributes of the executor for this execution."""
        task, context = self.task, self.context
        self._open_queue()
        executor.task_id = task.id
        executor.root_task_id = task.root_id
        executor.user_id = task.user_id
        executor.stored_task = task
        executor.attempts = task.attempts
        executor.idempotency_key = f"{task.id}:{task.generation}"
        executor.policy_effect = task.policy.get("effect")
        executor.cancellation_checker = self.cancellation
        executor.event_queue = self.queue
        executor.task_log = self.log
        context.instances[task.id] = executor


def _storable_line(secrets: Sequence[str], text: str) -> str:
    """Return a line of a log as it may be stored."""
    text = clean_text(text)
    return cast("str", redact(text, secrets)) if secrets else text
