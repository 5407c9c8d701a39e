"""What a campaign has shown: each rule, and what broke it."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from apflow.core.model.task import Json
from apflow.testing.torture.checks import CHECKS, restarts
from apflow.testing.torture.evidence import HELD_UP, Evidence

SHOWN = 5  # findings of one rule
BUSY = "The machine, or the database, may be too busy: try fewer --workers, or a smaller --size."
# What to do about a broken rule, besides what holds for all.
ADVICE = {
    "work_goes_on_after_a_kill": BUSY,
    "everything_ends": "Look for errors at the end of the logs of the workers.",
    "nothing_acknowledged_is_lost": "Check that the disk keeps what is written: network file systems, and "
    "disk caches without a battery, may not.",
    "numbers_have_no_gaps": "Check that no other program changes the database.",
}


@dataclass(frozen=True)
class RuleResult:
    """A rule, and what broke it."""

    name: str
    rule: str
    findings: list[str]


@dataclass(frozen=True)
class Verdict:
    """The verdict on a campaign.

    Attributes:
        failure: why the campaign could not end, if it did not.
    """

    seed: str
    evidence: Evidence
    rules: list[RuleResult]
    failure: str | None = None

    @property
    def is_good(self) -> bool:
        """Whether each rule holds, and the campaign has ended."""
        return self.failure is None and not self.broken

    @property
    def broken(self) -> list[RuleResult]:
        """The rules that do not hold."""
        return [each for each in self.rules if each.findings]

    @property
    def counts(self) -> dict[str, int]:
        """What was done, and how often."""
        kinds = Counter(line["kind"] for line in self.evidence.history)
        return {
            "kills": kinds["killed"],
            "suspensions": kinds["frozen"],
            "stops": kinds["drained"],
            "trees": len(self.evidence.acknowledged),
            "tasks": len(self.evidence.tasks),
            "calls": kinds["started"],
            "elements": sum(map(len, self.evidence.elements.values())),
            "approvals": len(self.evidence.approvals),
            "held_up": kinds[HELD_UP],
        }

    def to_dict(self) -> dict[str, Json]:
        """Return the verdict as plain JSON."""
        return {
            "is_good": self.is_good,
            "seed": self.seed,
            "failure": self.failure,
            **self.counts,
            "rules": [
                {"name": each.name, "rule": each.rule, "findings": each.findings} for each in self.rules
            ],
        }

    def lines(self) -> Iterator[str]:
        """Yield the verdict for people."""
        counts = self.counts
        yield (
            f"{counts['kills']} kills, {counts['suspensions']} suspensions and {counts['stops']} stops of "
            f"workers; {counts['trees']} trees of {counts['tasks']} tasks, of which {counts['elements']} are "
            f"elements of lists; {counts['calls']} calls of executors, {counts['approvals']} approvals."
        )
        if seconds := [each for _, each in restarts(self.evidence)]:
            yield f"After a kill, work continued within {max(seconds):.1f} s."
        if counts["held_up"]:
            yield (
                f"{counts['held_up']} times, a worker was too slow to renew its leases in time, so that "
                f"others may have taken its trees. {BUSY}"
            )
        for each in self.rules:
            yield f"{'FAIL' if each.findings else 'ok  '}  {each.rule}"
            yield from (f"      {finding}" for finding in each.findings[:SHOWN])
            if len(each.findings) > SHOWN:
                yield f"      and {len(each.findings) - SHOWN} more"
            if each.findings and each.name in ADVICE:
                yield f"      {ADVICE[each.name]}"
        if self.failure is not None:
            yield f"FAIL  The campaign did not end: {self.failure}"
        total = len(self.rules)
        if self.is_good:
            yield f"All {total} rules hold."
        elif self.broken:
            yield f"{len(self.broken)} of {total} rules do not hold."


def verdict_on(evidence: Evidence, seed: str, failure: str | None = None) -> Verdict:
    """Return the verdict on the evidence of a campaign."""
    rules = [
        RuleResult(check.__name__, (inspect.getdoc(check) or "").partition("\n")[0], list(check(evidence)))
        for check in CHECKS
    ]
    return Verdict(seed, evidence, rules, failure)
