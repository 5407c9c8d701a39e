"""Limits for the tasks that share a key, and the account of who uses one. Pure.

The algorithm is the sliding window log, see for example
https://www.systemoverflow.com/learn/rate-limiting/sliding-window/sliding-log-exact-timestamps-for-precise-counting
A start counts from its grant until one period after its call has arrived at its peer: at the end of the call
or, if it takes longer, `arrival_seconds` after its begin. So a peer that counts the calls that arrive in any
window of one period finds no more than the rate, if each call reaches it within that time. Calls that have
arrived are counted per slice of the period (a fiftieth), as if they were at its end, so that the size of an
account does not depend on the rate.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from math import ceil
from typing import Final, NamedTuple

from apflow.core.bounds import MAX_RATE, MAX_RATE_SECONDS
from apflow.core.model.task import Json, Task

RECORDS: Final = "limit"  # the kind of the records that accounts are
MEMBERS: Final = ("key", "rate", "concurrency")
RATE_PATTERN: Final = r"[0-9]{1,7}/([0-9]{1,7})?(s|sec|second|m|min|minute|h|hour|d|day)"
MAX_KEY: Final = 200  # characters of a key
SLICES: Final = 50  # of a period
MAX_HELD: Final = (
    5_000  # tasks that hold a place of one limit at once, so that an account stays a small record
)
MAX_ARRIVAL_SECONDS: Final = 1.0
PLACE_SECONDS: Final = 10.0  # for which a place in the line is kept; it is renewed after half of that
EXTRA_SECONDS: Final = 10.0  # for which it is kept after a waiting process wants to look again

_RATE = re.compile(RATE_PATTERN)
_UNITS: Mapping[str, int] = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Rule(NamedTuple):
    """How many tasks may start in any period, and how many may run at once. None: any number."""

    starts: int | None = None
    seconds: float | None = None  # the period
    concurrency: int | None = None


class Limit(NamedTuple):
    """The limit in the policy of a task."""

    key: str
    rule: Rule

    @classmethod
    def of_task(cls, task: Task) -> Limit | None:
        """Return the limit of a task; None if there is no limit."""
        given = task.policy.get("limit")
        return None if not given else cls.from_json(given)

    @classmethod
    def from_json(cls, given: Mapping[str, Json]) -> Limit:
        """Return a limit that creation has checked."""
        rate = read_rate(given["rate"]) if given.get("rate") is not None else None
        starts, seconds = rate if rate is not None else (None, None)
        return cls(given["key"], Rule(starts, seconds, given.get("concurrency")))


def read_rate(text: object) -> tuple[int, float] | None:
    """Return the number of starts and the seconds of a rate such as `60/min`; None if it is not one."""
    if not isinstance(text, str) or not _RATE.fullmatch(text):
        return None
    number, _, period = text.partition("/")
    count = re.match(r"[0-9]*", period)
    many = count.group() if count is not None else ""
    starts, seconds = int(number), int(many or 1) * _UNITS[period[len(many)]]
    return (starts, float(seconds)) if 1 <= starts <= MAX_RATE and 1 <= seconds <= MAX_RATE_SECONDS else None


def account_key(user_id: str | None, key: str) -> str:
    """Return the key of the record of a limit. Each user has its own."""
    return f"{'-' if user_id is None else sha256(user_id.encode()).hexdigest()}/{key}"


def arrival_seconds(rule: Rule) -> float:
    """Return the time after the begin of a call from which on it counts as arrived at its peer."""
    return min(MAX_ARRIVAL_SECONDS, (rule.seconds or 0.0) / 4)


class Claim(NamedTuple):
    """A ready task that wants a place."""

    task_id: str
    root_id: str
    rule: Rule


class Held(NamedTuple):
    """A place that a task holds, from the grant on."""

    root_id: str
    owner: str | None  # of the run
    at: float  # Unix time of the grant
    is_open: bool  # its start is not counted among `starts` yet
    rule: Rule


class Start(NamedTuple):
    """Starts that are counted as if they were at one time."""

    at: float  # Unix time
    number: int
    seconds: float  # for which they are kept


class Room(NamedTuple):
    """How many tasks may start now and, if there are none and only the rate decides, when the next may."""

    free: int
    seconds: float | None = None  # from now; None: when a task ends


@dataclass(slots=True)
class Place:
    """A process that waits in line, with the rules of the tasks that it wants to start."""

    until: float  # Unix time until which the place is kept, if it is not renewed
    rules: list[Rule]


@dataclass(slots=True)
class LimitAccount:
    """Who uses a limit. `to_json` is what the store keeps. Times are Unix times.

    If tasks that hold or want a place have different rules, each start obeys all of them.
    """

    held: dict[str, Held] = field(default_factory=dict[str, Held])  # by id of the task
    starts: list[Start] = field(default_factory=list[Start])  # of calls that have arrived at their peers
    line: dict[str, Place] = field(default_factory=dict[str, Place])  # waiting processes, the first one first

    # --- places ------------------------------------------------------------------------------------

    def grant(self, waiter: str, owner: str | None, claims: Sequence[Claim], now: float) -> list[str]:
        """Grant places to the first claims and return their tasks. One is left for each earlier waiter.

        A waiter that gets fewer than it wants moves to the end of the line, or keeps its place if it gets
        none.
        """
        self._tidy(now)
        for claim in claims:
            self.release(claim.task_id, None, now)  # of an earlier attempt, whose process has died
        rules = list(dict.fromkeys(claim.rule for claim in claims))
        room = self.room(rules, now)
        ahead = 0
        for each in self.line:
            if each == waiter:
                break
            ahead += 1
        granted = claims[: max(0, room.free - ahead)]
        for claim in granted:
            self.held[claim.task_id] = Held(claim.root_id, owner, now, True, claim.rule)
        if granted or not claims:
            self.line.pop(waiter, None)
        if len(granted) < len(claims):
            self._wait(waiter, rules, now)
        return [claim.task_id for claim in granted]

    def _wait(self, waiter: str, rules: list[Rule], now: float) -> None:
        """Give a waiter a place at the end of the line, or renew the one that it has."""
        seconds = self.room(rules, now).seconds
        until = now + PLACE_SECONDS if seconds is None else now + seconds + EXTRA_SECONDS
        place = self.line.setdefault(waiter, Place(until, rules))
        if place.rules != rules or place.until < now + PLACE_SECONDS / 2:
            place.rules, place.until = rules, max(until, now + PLACE_SECONDS)

    def leave(self, waiter: str) -> None:
        """Take a waiter out of the line."""
        self.line.pop(waiter, None)

    def settle(self, task_id: str, owner: str | None, now: float) -> None:
        """Count the start of a task whose call has arrived at its peer. Its place stays taken."""
        held = self.held.get(task_id)
        if held is None or held.owner != owner or not held.is_open:
            return
        self._count(held.rule, now)
        if held.rule.concurrency is None:
            del self.held[task_id]
        else:
            self.held[task_id] = held._replace(is_open=False)

    def release(self, task_id: str, owner: str | None, now: float) -> None:
        """Free the place of a task, and count its start if that was not done before.

        Args:
            owner: the place is freed only if it was granted to this owner; None: in any case.
        """
        held = self.held.get(task_id)
        if held is None or (owner is not None and held.owner != owner):
            return
        del self.held[task_id]
        if held.is_open:
            self._count(held.rule, now)

    def give_back(self, task_id: str, owner: str | None) -> None:
        """Free the place of a task that was not started."""
        held = self.held.get(task_id)
        if held is not None and held.owner == owner:
            del self.held[task_id]

    def drop(self, task_ids: Collection[str], now: float) -> None:
        """Free the places of tasks whose process has died. Their calls may have begun, so they count."""
        for task_id in task_ids:
            self.release(task_id, None, now)

    # --- room --------------------------------------------------------------------------------------

    def room(self, rules: Iterable[Rule], now: float) -> Room:
        """Return how many tasks with these rules may start now, without regard to the line."""
        rooms = [self._room(rule, now) for rule in self.rules(rules)]
        free = min((each.free for each in rooms), default=MAX_HELD)
        blocked = [each for each in rooms if each.free <= 0]
        seconds = None
        if blocked and all(each.seconds is not None for each in blocked):
            seconds = max(each.seconds or 0.0 for each in blocked)
        return Room(max(0, free), seconds)

    def starts_within(self, seconds: float, now: float) -> int:
        """Return how many starts count in the period that ends now."""
        opened = sum(held.is_open for held in self.held.values())
        return opened + sum(each.number for each in self.starts if each.at > now - seconds)

    def _room(self, rule: Rule, now: float) -> Room:
        most = min(MAX_HELD, rule.concurrency or MAX_HELD)
        free = most - len(self.held)
        if free <= 0 or rule.starts is None or rule.seconds is None:
            return Room(free)
        left = rule.starts - self.starts_within(rule.seconds, now)
        if left > 0:
            return Room(min(free, left))
        counted = [each.at for each in self.starts if each.at > now - rule.seconds]
        return Room(0, min(counted) + rule.seconds - now if counted else None)

    def rules(self, rules: Iterable[Rule] = ()) -> set[Rule]:
        """Return these rules and those of all tasks that hold or want a place."""
        waiting = (rule for place in self.line.values() for rule in place.rules)
        return {*rules, *(held.rule for held in self.held.values()), *waiting}

    def _count(self, rule: Rule, now: float) -> None:
        """Count a start at the end of the present slice."""
        seconds = max((each.seconds or 0.0 for each in self.rules([rule])), default=0.0)
        if not seconds:
            return
        at = ceil(now * SLICES / seconds) * seconds / SLICES
        for index, each in enumerate(self.starts):
            if (each.at, each.seconds) == (at, seconds):
                self.starts[index] = each._replace(number=each.number + 1)
                return
        self.starts.append(Start(at, 1, seconds))

    def _tidy(self, now: float) -> None:
        """Forget what does not count any more. If the clock was set back, later times become this one."""
        kept = (each for each in self.starts if each.at > now - each.seconds)
        self.starts = [
            each if each.at <= now + each.seconds / SLICES else each._replace(at=now) for each in kept
        ]
        self.line = {waiter: place for waiter, place in self.line.items() if place.until > now}
        for place in self.line.values():
            seconds = max((rule.seconds or 0.0 for rule in place.rules), default=0.0)
            place.until = min(place.until, now + PLACE_SECONDS + seconds + EXTRA_SECONDS)

    # --- JSON --------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Json]:
        """Return the account as the store keeps it."""
        return {
            "held": {task_id: [*held[:-1], list(held.rule)] for task_id, held in self.held.items()},
            "starts": [list(each) for each in self.starts],
            "line": [
                [waiter, place.until, list(map(list, place.rules))] for waiter, place in self.line.items()
            ],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Json]) -> LimitAccount:
        """Return the account that the store keeps."""
        return cls(
            {
                task_id: Held(root_id, owner, at, is_open, Rule(*rule))
                for task_id, (root_id, owner, at, is_open, rule) in stored["held"].items()
            },
            [Start(*each) for each in stored["starts"]],
            {
                waiter: Place(until, [Rule(*each) for each in rules])
                for waiter, until, rules in stored["line"]
            },
        )


def describe_limit(given: Mapping[str, Json]) -> str:
    """Return a limit of a policy as a sentence has it: its key, and what it allows."""
    allowed = [each for each in (given.get("rate"), _at_once(given.get("concurrency"))) if each]
    return f"{given['key']!r} ({', '.join(allowed)})"


def _at_once(concurrency: int | None) -> str | None:
    return None if concurrency is None else f"{concurrency} at once"
