"""A campaign for a number of minutes: workers are killed, suspended and stopped under load."""

from __future__ import annotations

import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from apflow.testing.torture.campaign import Campaign
from apflow.testing.torture.cluster import a_cluster
from apflow.testing.torture.place import Place
from apflow.testing.torture.verdict import Verdict, verdict_on

LEASE_SECONDS = 2.0  # for which a killed worker's trees wait for another one
RESTART_SECONDS = 60.0  # beyond the lease: the machines of users are busy, and processes take time to start
FAULTS = {
    "kill": 6,
    "freeze": 2,
    "drain": 1,
    "roll": 1,
    "kill_decider": 1,
}  # how often, compared with each other
PAUSE_SECONDS = (0.2, 1.5)  # between two faults
REPORT_SECONDS = 10.0  # between two reports


def run_campaign(
    place: Place,
    folder: Path,
    *,
    seconds: float,
    workers: int,
    size: int,
    seed: str,
    report: Callable[[str], object] = lambda _: None,
) -> Verdict:
    """Run trees of `size` tasks on a database for so many seconds while faults befall the workers.

    Args:
        folder: an empty folder for the history and the logs.
        workers: processes; one where the database admits only one.
        report: called with a line on what was done, now and then.
    """
    environment = {"FAULTS_WATCH": "1"}
    if place.is_shared and (home := os.environ.get("HOME")):  # where the password of PostgreSQL may be
        environment["HOME"] = home
    with a_cluster(
        folder, place.url, lease=LEASE_SECONDS, restart=RESTART_SECONDS, environment=environment
    ) as cluster:
        campaign = Campaign(
            seed, cluster, size, workers=workers if place.is_shared else 1, is_shared=place.is_shared
        )
        failure = None
        try:
            campaign.start()
            _befall(campaign, seconds, seed, report)
            report("The faults have stopped. Waiting for all trees to end.")
            campaign.finish()
        except (AssertionError, subprocess.TimeoutExpired) as error:
            failure = str(error)
            cluster.kill_all()
        return verdict_on(cluster.evidence(place.url), seed, failure)


def _befall(campaign: Campaign, seconds: float, seed: str, report: Callable[[str], object]) -> None:
    dice = random.Random(f"{seed}/faults")  # noqa: S311  not for secrets
    kinds = [kind for kind, share in FAULTS.items() for _ in range(share)]
    begin = time.monotonic()
    reported = begin
    while (now := time.monotonic()) < begin + seconds:
        if now - reported >= REPORT_SECONDS:
            reported = now
            ended = sum(line["kind"] == "tree_ended" for line in campaign.cluster.history())
            report(f"{now - begin:.0f} s: {campaign.cluster.kills} kills, {ended} trees have ended.")
        campaign.befall(dice.uniform(*PAUSE_SECONDS), dice.choice(kinds))
