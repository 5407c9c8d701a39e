"""Four workers on one PostgreSQL, and what may befall them: nothing is lost, and nothing happens twice."""

import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from clusterkit.campaign import ServerCampaign
from clusterkit.disk import a_small_disk, fill
from faultkit.campaigns import CAMPAIGNS

from apflow.testing.postgres import a_database, run_sql, target_of, through
from apflow.testing.postgresserver import Server, a_server
from apflow.testing.proxy import Proxy, a_proxy
from apflow.testing.torture.checks import faults, restarts
from apflow.testing.torture.cluster import a_cluster
from apflow.testing.torture.evidence import RESTART, Evidence
from apflow.testing.torture.trees import make

SEED = os.environ.get("APFLOW_FAULT_SEED", "2026")
TIMEOUT_SECONDS = 10.0  # seconds for a server to notice that its clients have gone

SHORT = {
    "kill": 5, "kill_decider": 2, "freeze": 2, "drain": 1, "roll": 1,
    "restart_fast": 1, "restart_immediate": 1, "kill_server": 2, "restart_in_sweep": 1,
    "cut": 1, "delay": 1, "black_hole": 1, "strand": 1,
    "lose_answers": 1, "lose_commits": 1,
}  # fmt: skip
# Ten of these are 200 kills, with those of the restarts in a sweep, and 50 freezes.
LONG = SHORT | {
    "kill": 18, "kill_decider": 4, "freeze": 5, "restart_in_sweep": 2, "kill_server": 3, "cut": 3,
    "black_hole": 2, "strand": 2, "lose_answers": 3, "lose_commits": 3,
}  # fmt: skip


def campaign(server: Server, folder: Path, name: str, counts: Mapping[str, int], *, size: int) -> Evidence:
    """Run a campaign on a new database, and return its evidence."""
    with (
        a_database(server.url()) as url,
        a_proxy(target_of(url)) as proxy,
        a_cluster(folder, through(proxy.port, url)) as cluster,
    ):
        ServerCampaign(f"{SEED}/{name}", cluster, size, server=server, proxy=proxy).run(counts)
        evidence = cluster.evidence(url, left_at(url))
    print(told(name, evidence, proxy))
    return evidence


def told(name: str, evidence: Evidence, proxy: Proxy) -> str:
    """Return a summary of a campaign, to print (`-s`)."""
    kinds = Counter(line["kind"] for line in evidence.history)
    rests = [seconds for _, seconds in restarts(evidence)]
    rested = (
        f"; after {len(rests)} undisturbed kills, work continued within {max(rests):.2f} s" if rests else ""
    )
    return (
        f"seed {SEED}/{name}: {kinds['killed']} kills, {kinds['frozen']} freezes, {kinds['drained']} drains, "
        f"{kinds['server']} faults of server and network ({proxy.lost_answers} answers and "
        f"{proxy.lost_pieces} COMMITs lost), {len(evidence.acknowledged)} trees of {len(evidence.tasks)} "
        f"tasks, {kinds['started']} bodies{rested}"
    )


def left_at(url: str) -> list[str]:
    """Return the connections to a database that are still there when all clients have ended."""
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    until = time.monotonic() + TIMEOUT_SECONDS
    while (found := run_sql(url, f"SELECT pid, state, query {others}")) and time.monotonic() < until:
        time.sleep(0.1)
    return [f"a connection is left: {each}" for each in found]


def seeded(*numbers: int) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("number", numbers, ids=lambda number: f"seed-{SEED}-{number}")


@seeded(0)
def test_whatever_befalls_workers_and_server_nothing_is_lost(server: Server, tmp_path: Path, number: int):
    evidence = campaign(server, tmp_path, f"short{number}", SHORT, size=150)
    assert faults(evidence) == {}


@pytest.mark.faults
@seeded(*range(1, 1 + CAMPAIGNS))
def test_whatever_befalls_them_for_long_nothing_is_lost(server: Server, tmp_path: Path, number: int):
    evidence = campaign(server, tmp_path, f"long{number}", LONG, size=1500)
    assert faults(evidence) == {}


def killed_in_quiet(server: Server, folder: Path, name: str, kills: int) -> Evidence:
    """Kill one worker after the other, each when the trees of the one before have been taken."""
    environment = {"APFLOW_MAX_CONCURRENCY": "16"}
    with a_database(server.url()) as url, a_cluster(folder, url, environment=environment) as cluster:
        for slot in range(4):
            cluster.start_worker(slot)
            cluster.wait_until_ready(slot)
        for number in range(kills):
            key = f"tree{number}"
            cluster.submit(key, make(key, f"{SEED}/{name}/{number}", 150) + pauses(key))
            root_id = cluster.wait_for("acknowledged", key=key)["root_id"]
            line = cluster.wait_for("started", root_id=root_id)
            after = cluster.seen()
            slot = cluster.slot_of(line["life"])
            cluster.kill(slot)
            cluster.wait_for("started", after=after, root_id=root_id, but={"life": line["life"]})
            cluster.start_worker(slot)
            cluster.wait_until_ready(slot)
        assert cluster.wait_for_ends(), cluster.log()
        cluster.stop()
        return cluster.evidence(url, left_at(url))


def pauses(key: str) -> list[dict[str, object]]:
    """Return a task that keeps a tree from ending before its worker is killed."""
    plain = {"id": f"{key}-long", "name": f"{key}-long", "parent_id": key, "schemas": {"method": "noted"}}
    return [plain | {"priority": 0, "inputs": {"seconds": 1.0}}]


def test_a_killed_workers_trees_go_on_when_its_lease_has_run_out(server: Server, tmp_path: Path):
    evidence = killed_in_quiet(server, tmp_path, "quiet", 3)
    assert faults(evidence) == {}  # the time among them
    assert restarts(evidence)


@pytest.mark.faults
def test_twenty_killed_workers_trees_go_on_within_the_lease_and_two_seconds(server: Server, tmp_path: Path):
    evidence = killed_in_quiet(server, tmp_path, "quiets", 20)
    assert faults(evidence) == {}
    seconds = sorted(seconds for _, seconds in restarts(evidence))
    assert len(seconds) >= 20
    print(f"Continued after a kill: median {seconds[len(seconds) // 2]:.2f} s, at most {seconds[-1]:.2f} s")
    assert seconds[-1] <= evidence.lease + RESTART


@pytest.mark.faults
def test_twenty_restarts_of_the_server_under_load_lose_nothing(server: Server, tmp_path: Path):
    counts = {"restart_fast": 7, "restart_immediate": 7, "kill_server": 6}
    evidence = campaign(server, tmp_path, "restarts", counts, size=1500)
    assert faults(evidence) == {}


@pytest.mark.faults
def test_a_full_disk_of_the_server_loses_nothing(tmp_path: Path):
    with a_small_disk(256) as disk:
        settings = "max_wal_size = 64MB\nmin_wal_size = 32MB\n"
        with (
            a_server(disk / "data", settings) as server,
            a_cluster(tmp_path, server.url()) as cluster,
        ):
            for slot in range(4):
                cluster.start_worker(slot)
            for number in range(6):
                cluster.submit(f"tree{number}", make(f"tree{number}", f"{SEED}/full/{number}", 1500))
            cluster.wait_for("started")
            for _ in range(3):
                time.sleep(1)
                cluster.note("server", what="disk full")
                fill(disk / "ballast")
                time.sleep(3)
                (disk / "ballast").unlink()
                server.stop("immediate")  # it may be in any state
                server.start()
            assert cluster.wait_for_ends(), cluster.log()
            cluster.stop()
            evidence = cluster.evidence(server.url(), left_at(server.url()))
    assert faults(evidence) == {}
