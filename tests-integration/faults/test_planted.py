"""Faults that are planted into the workers on purpose: the checks must find each, and nothing without it."""

from pathlib import Path

import pytest
from clusterkit.scenarios import CAUGHT, END, LEASE, TIMEOUT_SECONDS, Stage, Story

from apflow.testing.postgres import a_database, target_of, through
from apflow.testing.postgresserver import Server
from apflow.testing.proxy import a_proxy
from apflow.testing.torture.checks import faults
from apflow.testing.torture.cluster import a_cluster
from apflow.testing.torture.evidence import Evidence


def told(story: Story, server: Server, folder: Path, planted: str = "") -> Evidence:
    """Run a scenario, and return its evidence."""
    environment = {"FAULTS_PLANTED": planted, "FAULTS_WATCH": "1"}
    with (
        a_database(server.url()) as url,
        a_proxy(target_of(url)) as proxy,
        a_cluster(
            folder,
            through(proxy.port, url),
            lease=LEASE,
            modules=["clusterkit.planted"],
            environment=environment,
        ) as cluster,
    ):
        story(Stage(cluster, proxy, TIMEOUT_SECONDS if planted else END))
        cluster.stop()
        return cluster.evidence(url)


@pytest.mark.parametrize("planted", CAUGHT)
def test_a_planted_fault_is_caught(server: Server, tmp_path: Path, planted: str):
    story, check = CAUGHT[planted]
    assert check in faults(told(story, server, tmp_path, planted))


@pytest.mark.faults
@pytest.mark.parametrize("story", {story.__name__: story for story, _ in CAUGHT.values()}.values())
def test_without_it_the_same_story_ends_well(server: Server, tmp_path: Path, story: Story):
    assert faults(told(story, server, tmp_path)) == {}
