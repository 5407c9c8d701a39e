"""`TaskService`: all operations that interfaces offer, with their authorization.

The command line and the protocols are thin layers over `TaskService`; the table in `operations` describes it
to them. Results are plain JSON; values of secret-like keys are masked as ***.
"""

from __future__ import annotations

from apflow.core.service.approvals import ApprovalService
from apflow.core.service.budgets import BudgetService
from apflow.core.service.export import ExportService
from apflow.core.service.generation import GenerationService
from apflow.core.service.logs import LogService
from apflow.core.service.planning import PlanService
from apflow.core.service.retention import RetentionService
from apflow.core.service.runs import RunService
from apflow.core.service.schedules import ScheduleService
from apflow.core.service.sql_query import SqlQueryService
from apflow.core.service.statistics import StatisticsService
from apflow.core.service.system import SystemService
from apflow.core.service.trees import as_array

__all__ = ["TaskService", "as_array"]


class TaskService(
    RunService,
    LogService,
    BudgetService,
    ExportService,
    GenerationService,
    PlanService,
    RetentionService,
    ScheduleService,
    ApprovalService,
    SqlQueryService,
    StatisticsService,
    SystemService,
):
    """The operations of one caller on one store."""
