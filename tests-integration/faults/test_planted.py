"""Faults that are planted into the workers on purpose: the checks must find each, and nothing without it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from clusterkit.checks import Evidence, faults
from clusterkit.cluster import a_cluster
from clusterkit.proxy import a_proxy
from clusterkit.scenarios import CAUGHT, LEASE, Stage, Story
from clusterkit.server import Server, a_server_of_its_own


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with a_server_of_its_own() as server:
        yield server


def told(story: Story, server: Server, folder: Path, name: str, planted: str = "") -> Evidence:
    """Let a story happen, and return what it left."""
    url = server.create_database(name)
    environment = {"FAULTS_PLANTED": planted, "FAULTS_WATCH": "1"}
    with (
        a_proxy(server.port) as proxy,
        a_cluster(
            folder,
            server.url(name, proxy.port),
            lease=LEASE,
            modules=["clusterkit.planted"],
            environment=environment,
        ) as cluster,
    ):
        story(Stage(cluster, proxy))
        cluster.stop()
        return cluster.evidence(url)


@pytest.mark.parametrize("planted", CAUGHT)
def test_a_planted_fault_is_caught(server: Server, tmp_path: Path, planted: str):
    story, check = CAUGHT[planted]
    assert check in faults(told(story, server, tmp_path, planted, planted))


@pytest.mark.faults
@pytest.mark.parametrize("story", {story.__name__: story for story, _ in CAUGHT.values()}.values())
def test_without_it_the_same_story_ends_well(server: Server, tmp_path: Path, story: Story):
    assert faults(told(story, server, tmp_path, story.__name__)) == {}
