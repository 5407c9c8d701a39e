"""A Dask cluster whose scheduler, workers and owner are on separate hosts, connected by TLS."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
from peers import required
from peers.dask_clusters import HERE
from peers.hosts import CAN_MAKE_HOSTS, Hosts
from peers.marks import Marks, MarksOnce, calls, lines_of, pids

PORT = 8786
WITHIN = 120.0  # seconds for one tree on a busy machine
PARTITION_SECONDS = 30.0
# Starts a program again when it has ended: a Dask worker ends if it loses its scheduler.
SUPERVISED = ("sh", "-c", 'while :; do "$@"; sleep 1; done', "sh")
NAMES = ("scheduler", "worker1", "worker2", "owner")

pytestmark = [
    required.needs(CAN_MAKE_HOSTS, "takes root, unshare and ip"),
    pytest.mark.timeout(600),
    pytest.mark.faults,  # not every machine that checks merges can make hosts
]


class Site:
    """The hosts, and what runs on them."""

    def __init__(self, hosts: Hosts, folder: Path, tls: Mapping[str, Path]) -> None:
        self.hosts, self.folder, self.tls = hosts, folder, tls
        self.address = f"tls://{hosts.address('scheduler')}:{PORT}"
        self.marks = folder / "marks"
        self.marks.mkdir()

    def start_cluster(self) -> None:
        """Start the scheduler, and a worker on each of its hosts; wait until they have found each other."""
        files = {"ca-file": "ca", "cert": "cert", "key": "key"}
        options = [part for name, file in files.items() for part in (f"--tls-{name}", str(self.tls[file]))]
        environment = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0", "PYTHONPATH": str(HERE)}
        dask = (sys.executable, "-m", "dask")
        host = self.hosts.address("scheduler")
        self.hosts.start(
            "scheduler", *dask, "scheduler", "--host", host, "--port", str(PORT), "--protocol", "tls",
            "--no-dashboard", *options, environment=environment,
        )  # fmt: skip
        for name in ("worker1", "worker2"):
            self.hosts.start(
                name, *SUPERVISED, *dask, "worker", self.address, "--host", self.hosts.address(name),
                "--no-nanny", "--nthreads", "50", "--no-dashboard", *options, environment=environment,
            )  # fmt: skip
        self._until(lambda: self.hosts.log("scheduler").read_text().count("Register worker") == 2)

    def run(self, array: list[dict[str, Any]], **settings: str) -> subprocess.Popen[bytes]:
        """Start the owner of a tree, which writes its result to `<folder>/owner.log`."""
        tree = self.folder / "tree.json"
        tree.write_text(json.dumps(array))
        tls = {f"APFLOW_DASK_TLS_{name.upper()}": str(file) for name, file in self.tls.items()}
        environment = {
            "PYTHONPATH": str(HERE),
            "APFLOW_DATABASE_URL": f"duckdb:///{self.folder / 'owner.duckdb'}",
            "APFLOW_IMPORT_MODULES": "peers.marks_registered",
            "APFLOW_RUNNER": "dask",
            "APFLOW_DASK_ADDRESS": self.address,
            "HOME": str(self.folder),
            **tls,
            **settings,
        }
        command = (sys.executable, "-m", "apflow.cli", "run", "flow", "--tasks-file", str(tree), "--json")
        return self.hosts.start("owner", *command, environment=environment)

    def tasks(self) -> dict[str, dict[str, Any]]:
        """Return the tasks of the tree, which has ended, by key, without its root."""
        result = json.loads(self.hosts.log("owner").read_text().splitlines()[-1])
        return {each["key"]: each for each in result["root"]["children"]}

    def until_begun(self, count: int) -> None:
        """Wait until so many tasks have begun."""
        self._until(lambda: len(lines_of(self.marks)) >= count)

    def _until(self, holds: Any) -> None:
        limit = time.monotonic() + WITHIN
        while not holds():
            assert time.monotonic() < limit, self.logs()
            time.sleep(0.05)

    def logs(self) -> str:
        """Return the last lines of each host."""
        files = [log for name in NAMES if (log := self.hosts.log(name)).exists()]
        return "\n".join(f"{log.stem}: {log.read_text()[-3000:]}" for log in files)


def files_of(authority: trustme.CA, folder: Path) -> dict[str, Path]:
    """Write a certificate of an authority, and that of the authority, into a new folder."""
    folder.mkdir()
    files = {name: folder / f"{name}.pem" for name in ("ca", "cert", "key")}
    issued = authority.issue_cert("apflow.test")
    authority.cert_pem.write_to_path(files["ca"])
    issued.cert_chain_pems[0].write_to_path(files["cert"])
    issued.private_key_pem.write_to_path(files["key"])
    return files


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    tls = files_of(trustme.CA(), tmp_path / "tls")
    with Hosts(tmp_path, NAMES) as hosts:
        made = Site(hosts, tmp_path, tls)
        made.start_cluster()
        yield made


def test_a_tree_of_one_host_runs_on_others_by_tls(site: Site):
    owner = site.run(calls(site.marks, 20, 0.5))
    assert owner.wait(WITHIN) == 0, site.logs()
    begun = lines_of(site.marks)
    assert len(set(pids(begun))) == 2  # a process on each of the hosts of workers
    assert all(lines[1:] == ["ended"] for lines in begun.values())
    assert "tls://" in site.hosts.log("scheduler").read_text()


def test_an_owner_without_a_certificate_of_the_cluster_is_refused(site: Site):
    stranger = files_of(trustme.CA(), site.folder / "stranger")
    tls = {f"APFLOW_DASK_TLS_{name.upper()}": str(file) for name, file in stranger.items()}
    owner = site.run(calls(site.marks, 1, 0.0), APFLOW_DASK_WAIT="3", **tls)
    assert owner.wait(WITHIN) == 1, site.logs()
    assert "RunnerUnavailable" in site.hosts.log("owner").read_text()
    assert lines_of(site.marks) == {}


@pytest.mark.parametrize("kind", [Marks, MarksOnce], ids=["idempotent", "once"])
@pytest.mark.parametrize("name", ["worker1", "owner", "scheduler"])
def test_a_host_that_is_cut_off_for_a_while_loses_nothing(site: Site, name: str, kind: type[Marks]):
    owner = site.run(calls(site.marks, 20, 5.0, kind))
    site.until_begun(20)
    site.hosts.cut(name)
    time.sleep(PARTITION_SECONDS)
    site.hosts.join(name)
    exit_code = owner.wait(WITHIN)
    begun = lines_of(site.marks)
    tasks = site.tasks()
    lost = {key for key, task in tasks.items() if task["result"].get("error_type") == "Interrupted"}
    assert {task["status"] for key, task in tasks.items() if key not in lost} <= {"completed"}, site.logs()
    assert all("ended" in lines for key, lines in begun.items() if key not in lost)
    if kind is MarksOnce:  # whether a connection outlives the time depends on what was sent meanwhile
        assert {len(pids({key: lines})) for key, lines in begun.items()} == {1}
    else:
        assert lost == set()
        assert exit_code == 0
