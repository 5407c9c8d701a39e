"""Names the tasks whose code keeps an event loop, or the whole interpreter, from continuing."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from traceback import StackSummary, walk_stack
from types import FrameType

from apflow.core.concurrency.exit_fence import owner_of_frame
from apflow.core.engine.attempt import Attempt
from apflow.core.engine.tree_run import TreeRun
from apflow.core.model.task import Task
from apflow.core.payload.secrets import redact
from apflow.core.process.traceback_text import MAX_TRACEBACK, shortened, users_frames

TRIES = 3  # to find the attempt in a stack


@dataclass(frozen=True, slots=True)
class Sample:
    """What a thread executes at one moment."""

    attempt: Attempt | None  # whose code it is, if that is known
    place: tuple[str, int | None]  # file and line of the innermost frame
    stack: str  # without frames of apflow's core


def sample(thread_id: int, runs: Iterable[TreeRun]) -> Sample | None:
    """Return what the thread of an event loop executes now; None if it has ended.

    Args:
        thread_id: the thread, as `threading.get_ident` identifies it.
        runs: the runs on the event loop.
    """
    frames, attempt, at = list[FrameType](), None, None
    for _ in range(TRIES):  # the innermost call may end while its callers are read
        frames = _frames(thread_id)
        attempt, at = _attempt_in(frames, list(runs))
        if attempt is not None:
            break
    if not frames:
        return None
    stack = StackSummary.extract((each, each.f_lineno) for each in reversed(frames))
    shown = StackSummary.from_list(users_frames(stack if at is None else stack[len(frames) - at :]))
    text = "".join(shown.format()).rstrip()
    if attempt is not None:
        text = redact(text, list(attempt.secrets))
    innermost = stack[-1]
    return Sample(attempt, (innermost.filename, innermost.lineno), shortened(text, MAX_TRACEBACK))


def _frames(thread_id: int) -> list[FrameType]:
    """Return the frames of a thread, the innermost one first."""
    frame = sys._current_frames().get(thread_id)  # noqa: SLF001 - the documented way to read it
    return [] if frame is None else [each for each, _ in walk_stack(frame)]


def _attempt_in(frames: list[FrameType], runs: list[TreeRun]) -> tuple[Attempt | None, int | None]:
    """Return the attempt whose code a stack is in, and the index of the frame that has entered the code."""
    for at, frame in enumerate(frames):
        if frame.f_code is Attempt.run.__code__:
            return frame.f_locals.get("self"), at
        owner = owner_of_frame(frame)  # of an asyncio task that users' code has created
        if owner is not None:
            found = (each for each in _running(runs) if each.waiter is owner)
            return next(found, None), at
    return None, None


def _running(runs: Iterable[TreeRun]) -> Iterator[Attempt]:
    for run in runs:
        yield from list(run.state.running.values())


def interpreter_holders(runs: Iterable[TreeRun]) -> str:
    """Name the tasks that may have held the interpreter: those whose code runs now or has just ended."""
    surely: list[Task] = []
    running: list[Task] = []
    for run in runs:
        surely += run.hold.suspects
        run.hold.suspects = []
        current = run.current_task()
        for attempt in list(run.state.running.values()):
            if attempt.has_begun:
                running.append(attempt.task)
                surely += [attempt.task] if current is not None and attempt.waiter is current else []
    if not surely and not running:
        return "the interpreter was held while no task was running"
    named = {task.id: name_task(task) for task in surely or running}
    shown = ", ".join(list(named.values())[:10])
    is_sure = surely or len(named) == 1
    return f"the interpreter was held by {'' if is_sure else 'one of '}{shown}"


def name_task(task: Task) -> str:
    """Return a task as the log names it."""
    return f"task {task.id} ({task.name!r}, {task.executor})"
