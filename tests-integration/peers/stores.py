"""Types of fixtures that give stores."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from apflow.core.store.base import TaskStore

OpenStore = Callable[[], AbstractAsyncContextManager[TaskStore]]
