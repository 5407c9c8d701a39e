"""What runs in the scheduler of a Dask cluster: it keeps calls from being made twice."""

from __future__ import annotations

from typing import Any, Final

from distributed.diagnostics.plugin import SchedulerPlugin

from apflow.runner.dask.call_service import PREFIX

NAME: Final = "apflow-no-recomputation"


class NoRecomputation(SchedulerPlugin):
    """Makes the scheduler forget a call whose result is lost with its worker.

    The result of a call stays on its worker until the owner has fetched it. If the worker ends before that,
    the scheduler would make the call again, whatever its effect: `allowed-failures` is about calls that run.
    Without a `run_spec`, a task is data that cannot be computed, and the owner learns that it is lost.
    """

    idempotent = True  # registered by each owner, and again when the connection was lost

    async def start(self, scheduler: Any) -> None:
        """Keep the scheduler, of which this becomes a part."""
        self._scheduler = scheduler

    def transition(self, key: Any, start: str, finish: str, *_: Any, **__: Any) -> None:
        """Called when a task has changed its state."""
        del start
        if finish == "memory" and isinstance(key, str) and key.startswith(PREFIX):
            self._scheduler.tasks[key].run_spec = None
