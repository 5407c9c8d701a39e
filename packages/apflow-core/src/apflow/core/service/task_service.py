"""Every operation that an interface offers, and who may do it.

The command line and the protocols are thin over `TaskService`; `operations` describes it to them. What it
returns is plain JSON in which values under secret-like keys are shown as ***.
"""

from __future__ import annotations

from apflow.core.service.runs import RunService
from apflow.core.service.system import SystemService
from apflow.core.service.trees import as_array

__all__ = ["TaskService", "as_array"]


class TaskService(RunService, SystemService):
    """What one caller may do with the tasks of one store."""
