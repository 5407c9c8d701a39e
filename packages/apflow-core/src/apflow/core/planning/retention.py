"""How long ended trees are kept, and which trees have ended. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from apflow.core.errors import SettingsError
from apflow.core.model.status import TERMINAL
from apflow.core.model.task import Task
from apflow.core.settings import Settings
from apflow.core.store.base import TaskQuery

FOREVER: Final = 0.0
MAX_DAYS: Final = 36_500


@dataclass(frozen=True, slots=True)
class RetentionRules:
    """For how many days trees are kept after their end; 0 keeps them forever.

    The tags of the root decide, of several the one that keeps the tree longest; without such a tag its user;
    without either, `days`.
    """

    days: float
    by_user: Mapping[str, float]
    by_tag: Mapping[str, float]

    @classmethod
    def from_settings(cls, settings: Settings) -> RetentionRules:
        """Read the rules from the settings.

        Raises:
            SettingsError: a number of days of a user or a tag is not one.
        """
        return cls(
            settings.retention_days,
            _days_of(settings.retention_days_of_users, "retention_days_of_users"),
            _days_of(settings.retention_days_of_tags, "retention_days_of_tags"),
        )

    def days_of(self, root: Task) -> float:
        """Return for how many days a tree is kept after its end; 0: forever."""
        of_tags = [self.by_tag[tag] for tag in root.tags if tag in self.by_tag]
        if of_tags:
            return FOREVER if FOREVER in of_tags else max(of_tags)
        return self.by_user.get(root.user_id, self.days) if root.user_id is not None else self.days

    def is_expired(self, root: Task, now: datetime) -> bool:
        """Return whether the tree of a root has ended longer ago than it is kept."""
        days, ended_at = self.days_of(root), root.completed_at
        return days > FOREVER and ended_at is not None and ended_at < now - timedelta(days=days)

    def queries(self, now: datetime) -> Iterator[TaskQuery]:
        """Yield queries that together find the root of every expired tree, and perhaps others."""
        for tag, days in self.by_tag.items():
            if days > FOREVER:
                yield ended_roots(now - timedelta(days=days), tags=[tag])
        for user_id, days in self.by_user.items():
            if days > FOREVER:
                yield ended_roots(now - timedelta(days=days), user_id=user_id)
        if self.days > FOREVER:
            yield ended_roots(now - timedelta(days=self.days))


def ended_roots(before: datetime, *, user_id: str | None = None, tags: Sequence[str] = ()) -> TaskQuery:
    """Return the query for roots that ended before a time, the first to end first.

    Trees that a task of another tree started are left out: they are deleted with that task.
    """
    return TaskQuery(
        root_only=True,
        is_requested=False,
        is_spawned=False,
        status=sorted(TERMINAL),
        completed_before=before,
        user_id=user_id,
        tags=tags,
        order="completed_at",
    )


def has_ended_before(tasks: Sequence[Task], before: datetime) -> bool:
    """Return whether every task of a tree, and its last run, ended before a time."""
    return all(
        task.status in TERMINAL
        and task.run_requested_at is None
        and (task.completed_at is None or task.completed_at < before)
        and (task.run_ended_at is None or task.run_ended_at < before)
        for task in tasks
    )


def _days_of(given: Mapping[str, str], setting: str) -> Mapping[str, float]:
    return {name: _read_days(name, text, setting) for name, text in given.items()}


def _read_days(name: str, text: str, setting: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 <= days <= MAX_DAYS:
        raise SettingsError(
            f"APFLOW_{setting.upper()}: {name}={text[:50]} is not a number of days from 0 to {MAX_DAYS:,}. "
            "0 keeps trees forever."
        )
    return days
