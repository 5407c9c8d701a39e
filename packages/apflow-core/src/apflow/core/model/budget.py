"""A budget for calls of language models, and the account of what was spent of it. Pure.

An account reserves what a call may use before the call, and settles what it used after it. Reservations of
calls whose process died are charged in full: what such a call used is not known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, NamedTuple

from apflow.core.model.task import Json, Task, to_json

RECORDS: Final = "budget"  # the kind of the records that accounts are; their key is the id of the task
AMOUNTS: Final = ("usd", "tokens", "calls", "seconds")  # what a budget limits
MEMBERS: Final = (*AMOUNTS, "on_exceed")
FAIL: Final = "fail"
WAIT: Final = "wait"
ON_EXCEED: Final = (FAIL, WAIT)
MIN_OUTPUT_TOKENS: Final = 16  # of a call whose number of tokens is reduced to what the budget has left

Amounts = dict[str, float]  # of each of `AMOUNTS` that is not zero


def added(first: Mapping[str, float], second: Mapping[str, float], sign: int = 1) -> Amounts:
    """Return a sum of amounts or, with `sign` -1, a difference."""
    found = {name: first.get(name, 0) + sign * second.get(name, 0) for name in AMOUNTS}
    return {name: value for name, value in found.items() if value}


class OpenCall(NamedTuple):
    """A call that has begun, and what is reserved for it."""

    task_id: str
    attempt: int  # `Task.attempt_number` of the attempt that makes the call
    began_at: datetime
    reserved: Amounts


class Need(NamedTuple):
    """What a call may use at most.

    Attributes:
        input_tokens: tokens of the prompt.
        output_tokens: tokens of the answer, at most.
        usd_of_input: the price of the prompt; None if it is not known.
        usd_per_output_token: None if it is not known.
        may_shrink: whether fewer tokens of the answer will do.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    usd_of_input: float | None = 0.0
    usd_per_output_token: float | None = 0.0
    may_shrink: bool = False

    @property
    def has_price(self) -> bool:
        """Whether the cost of the call can be bounded."""
        return self.usd_of_input is not None and self.usd_per_output_token is not None

    def amounts(self) -> Amounts:
        """Return what is reserved for the call. Seconds are not known before."""
        usd = (self.usd_of_input or 0.0) + self.output_tokens * (self.usd_per_output_token or 0.0)
        return added({"calls": 1, "tokens": self.input_tokens + self.output_tokens, "usd": usd}, {})


class VerdictKind(StrEnum):
    """Whether a call may be made."""

    GRANTED = "granted"
    BUSY = "busy"  # what is left is reserved by other calls: when they are settled, there may be enough
    EXCEEDED = "exceeded"  # there will not be enough until the budget is raised


class Verdict(NamedTuple):
    """The answer to a reservation."""

    kind: VerdictKind
    output_tokens: int = 0  # that are granted
    amount: str | None = None  # which of `AMOUNTS` is short


@dataclass(slots=True)
class BudgetAccount:
    """The account of the budget of one task and everything below it. `to_json` is what the store keeps."""

    task_id: str
    root_id: str
    user_id: str | None
    limits: Amounts
    on_exceed: str = FAIL
    created_at: str | None = None  # of the task
    declared: dict[str, Json] = field(default_factory=dict[str, Json])  # in the policy of the task
    spent: Amounts = field(default_factory=Amounts)
    lost: Amounts = field(default_factory=Amounts)  # reserved by calls whose outcome is not known
    open: dict[str, OpenCall] = field(default_factory=dict[str, OpenCall])  # by id of the call
    warned: list[str] = field(default_factory=list[str])  # amounts for which a warning was given

    @classmethod
    def of_task(cls, task: Task) -> BudgetAccount:
        """Return the unused account of the budget in the policy of a task."""
        account = cls(task.id, task.root_id, task.user_id, {})
        account.follow(task)
        return account

    def follow(self, task: Task) -> None:
        """Take the limits in the policy of the task, unless the account has taken them before.

        If the account is of a deleted task that had the same id, it begins again with nothing spent.
        """
        created_at = to_json(task.created_at)
        if self.created_at != created_at:
            self.created_at, self.declared = created_at, {}
            self.spent, self.lost, self.open, self.warned = {}, {}, {}, []
        self.root_id, self.user_id = task.root_id, task.user_id
        budget: Mapping[str, Json] = task.policy.get("budget") or {}
        if budget != self.declared:
            self.declared = dict(budget)
            self.limits = {name: budget[name] for name in AMOUNTS if budget.get(name) is not None}
            self.on_exceed = budget.get("on_exceed") or FAIL

    # --- calls -------------------------------------------------------------------------------------

    def reserve(self, call_id: str, call: OpenCall, need: Need) -> Verdict:
        """Reserve what a call may use, if there is enough; `call.reserved` is ignored.

        The same call may be reserved again: what is reserved for it is replaced. A call of an earlier attempt
        of the same task, whose process has died, is charged first.
        """
        self.open.pop(call_id, None)
        self.write_off(
            [
                each
                for each, other in self.open.items()
                if other.task_id == call.task_id and other.attempt < call.attempt
            ]
        )
        settled = self.charged()
        held = self._held(call.began_at)
        verdict = self._fit(need, added(settled, held))
        if verdict.kind is not VerdictKind.GRANTED:
            alone = self._fit(need, settled)
            if self.open and alone.kind is VerdictKind.GRANTED:
                return Verdict(VerdictKind.BUSY, amount=verdict.amount)
            if not need.may_shrink:
                return alone if alone.kind is VerdictKind.EXCEEDED else verdict
            need = self._shrunk(need, settled)
            if self._fit(need, settled).kind is not VerdictKind.GRANTED:
                return alone
            if self.open:
                return Verdict(VerdictKind.BUSY, amount=verdict.amount)
            verdict = Verdict(VerdictKind.GRANTED, need.output_tokens)
        self.open[call_id] = call._replace(reserved=need.amounts())
        return verdict

    def settle(self, call_id: str, used: Mapping[str, float]) -> None:
        """Charge what a call used, in place of what was reserved for it."""
        if self.open.pop(call_id, None) is not None:
            self.spent = added(self.spent, used)

    def release(self, call_id: str) -> None:
        """Return what was reserved for a call that is not made."""
        self.open.pop(call_id, None)

    def write_off(self, call_ids: Collection[str]) -> None:
        """Charge calls whose process died with what was reserved for them."""
        for call_id in call_ids:
            call = self.open.pop(call_id, None)
            if call is not None:
                self.lost = added(self.lost, call.reserved)

    def warn(self, share: float) -> list[str]:
        """Return the amounts of which a share is charged now for the first time, and record that."""
        used = self.charged()
        crossed = [name for name, limit in self.limits.items() if used.get(name, 0) >= share * limit]
        new = [name for name in crossed if name not in self.warned]
        self.warned = crossed
        return new

    def set_limits(self, limits: Mapping[str, float | None], on_exceed: str | None, share: float) -> None:
        """Change limits; one that is None is removed. Warnings are given again where there is room again."""
        changed = {**self.limits, **limits}
        self.limits = {name: value for name, value in changed.items() if value is not None}
        self.on_exceed = on_exceed or self.on_exceed
        used = self.charged()
        self.warned = [
            name
            for name in self.warned
            if name in self.limits and used.get(name, 0) >= share * self.limits[name]
        ]

    def charged(self) -> Amounts:
        """Return what was spent, with the reservations of calls whose outcome is not known."""
        return added(self.spent, self.lost)

    def reserved(self) -> Amounts:
        """Return what is reserved for calls that have begun."""
        total: Amounts = {}
        for call in self.open.values():
            total = added(total, call.reserved)
        return total

    def _held(self, now: datetime) -> Amounts:
        """Return what the calls that have begun may use; of seconds, what they have taken so far."""
        taken = sum(max(0.0, (now - call.began_at).total_seconds()) for call in self.open.values())
        return added(self.reserved(), {"seconds": taken})

    def _fit(self, need: Need, taken: Mapping[str, float]) -> Verdict:
        """Return whether a call fits beside what is taken."""
        wanted = need.amounts()
        for name, limit in self.limits.items():
            short = (
                taken.get(name, 0) >= limit
                if name == "seconds"
                else taken.get(name, 0) + wanted.get(name, 0) > limit * (1 + 1e-12)
            )
            if short:
                return Verdict(VerdictKind.EXCEEDED, amount=name)
        return Verdict(VerdictKind.GRANTED, need.output_tokens)

    def _shrunk(self, need: Need, taken: Mapping[str, float]) -> Need:
        """Return the need with as many tokens of the answer as there are left, but no fewer than a few."""
        most: float = need.output_tokens
        if "tokens" in self.limits:
            most = min(most, self.limits["tokens"] - taken.get("tokens", 0) - need.input_tokens)
        if "usd" in self.limits and need.usd_per_output_token:
            left = self.limits["usd"] - taken.get("usd", 0) - (need.usd_of_input or 0.0)
            most = min(most, left / need.usd_per_output_token)
        fewest = min(MIN_OUTPUT_TOKENS, need.output_tokens)
        return need._replace(output_tokens=max(fewest, int(most)))

    # --- JSON --------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Json]:
        """Return the account as the store keeps it."""
        calls = {
            call_id: [call.task_id, call.attempt, call.began_at.isoformat(), call.reserved]
            for call_id, call in self.open.items()
        }
        return {name: getattr(self, name) for name in _PLAIN} | {"open": calls}

    @classmethod
    def from_json(cls, stored: Mapping[str, Json]) -> BudgetAccount:
        """Return the account that the store keeps."""
        calls = {
            call_id: OpenCall(task_id, attempt, datetime.fromisoformat(began_at), dict(reserved))
            for call_id, (task_id, attempt, began_at, reserved) in stored["open"].items()
        }
        fields: dict[str, Any] = {**stored, "open": calls}
        return cls(**fields)

    def copy(self) -> BudgetAccount:
        """Return an account with the same values."""
        return replace(
            self,
            limits=dict(self.limits),
            spent=dict(self.spent),
            lost=dict(self.lost),
            open=dict(self.open),
            warned=list(self.warned),
        )

    def to_dict(self, dead: Collection[str] = ()) -> dict[str, Json]:
        """Return the account as interfaces show it.

        Args:
            dead: calls whose process is known to have died.
        """
        shown = self.copy()
        shown.write_off(dead)
        charged, held = shown.charged(), shown.reserved()
        left = added(added(shown.limits, charged, -1), held, -1)
        return {
            "task_id": shown.task_id,
            "limits": _complete(shown.limits, shown.limits),
            "on_exceed": shown.on_exceed,
            "spent": _complete(shown.spent, AMOUNTS),
            "reserved": _complete(held, AMOUNTS),
            "lost": _complete(shown.lost, AMOUNTS),
            "left": {name: max(0, _rounded(left.get(name, 0))) for name in shown.limits},
            "open_calls": len(shown.open),
            "warned": list(shown.warned),
        }


_PLAIN: Final = (
    "task_id", "root_id", "user_id", "created_at", "limits", "on_exceed", "declared", "spent", "lost",
    "warned",
)  # fmt: skip


def _complete(amounts: Mapping[str, float], names: Iterable[str]) -> dict[str, float]:
    return {name: _rounded(amounts.get(name, 0)) for name in names}


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else round(value, 9)


def amounts_used(tokens: int, usd: float | None, seconds: float) -> Amounts:
    """Return what one call used."""
    return added({"calls": 1, "tokens": tokens, "usd": usd or 0.0, "seconds": seconds}, {})


def describe_amount(name: str, value: float) -> str:
    """Return an amount as a sentence has it."""
    if name == "usd":
        return f"{value:.6f}".rstrip("0").rstrip(".") + " US dollars"
    return f"{value:g} {name}" if name == "seconds" else f"{value:,.0f} {name}"
