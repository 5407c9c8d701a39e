"""The benchmarks run with one command. Nothing here depends on how fast the machine is."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.capacity import SCALES
from benchmarks.peers.__main__ import PAGE, SIZES, Figures, table, with_table
from benchmarks.peers.peers import FLOOR, PEERS
from benchmarks.simulation import Costs, Load, simulate

ROOT = Path(__file__).parents[1]


def measured(*arguments: str, seconds: float = 500) -> str:
    """Return what the benchmarks print. They end before pytest ends the test, however busy the machine is."""
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, timeout=seconds
    ).stdout


ENGINE = ("fan_out", "chain", "latency", "sleep", "create_1000", "load", "import", "cli", "memory")  # seconds


def test_the_rows_of_the_engine_have_a_figure_and_a_floor():
    lines = [json.loads(line) for line in measured("--quick", "--json", *ENGINE).splitlines()]
    names = {line["name"] for line in lines}
    assert {"fan_out_1000", "chain_50", "latency_p50", "latency_p95", "sleep_500", "create_1000"} <= names
    assert {"load_1000", "list_1000", "import_core", "cli_version", "cli_help", "memory_1000"} <= names
    assert all(line["value"] > 0 and line["floor"] > 0 for line in lines)


@pytest.mark.long
def test_every_quick_row_has_a_figure_and_a_floor():
    lines = [json.loads(line) for line in measured("--quick", "--json", seconds=3000).splitlines()]
    assert {"serve_ready", "serve_mcp", "rest", "for_each_1000", "purge_beside"} <= {
        line["name"] for line in lines
    }
    assert all(line["value"] > 0 and line["floor"] > 0 for line in lines)


def test_rows_are_chosen_by_name_and_printed_as_a_table():
    shown = measured("--quick", "import").splitlines()
    assert [line.split()[0] for line in shown[2:]] == ["row", "import_core", "import_manager"]


def test_the_comparison_names_each_system_that_is_measured_and_has_a_place_for_its_table():
    page = PAGE.read_text()
    replaced = with_table(page, "| new |")
    assert "| new |" in replaced
    assert with_table(replaced, "| newer |") == page.replace(
        page[page.index("<!-- figures -->") : page.index("<!-- end of figures -->")],
        "<!-- figures -->\n\n| newer |\n",
    )
    for peer in PEERS:
        assert peer.program.is_file()
        assert peer.name == FLOOR or f"| {peer.title} |" in page or f"[{peer.title}]" in page


def test_a_table_has_what_has_not_ended_and_thousands():
    figures = [Figures(PEERS[0], "1", {"one": 0.0012, "chain": 1.5, "fan": None})]
    assert "| floor | 1 | 1.2 | 1,500 | not ended |" in table(figures, SIZES, 3)


COSTS = Costs(
    commit=0.001, task=0.002, wake=0.0, notice=0.0, idle=0.0, engine=0.001, flush=0.001, commits_per_tree=1.0
)


def test_the_simulated_database_is_used_by_what_its_work_costs():
    load = Load(workers=20, processors=4, trees=20.0, levels=1, width=10, call=0.1, seconds=30.0)
    found = simulate(COSTS, load)
    assert found.tasks == pytest.approx(200, rel=0.1)
    tasks = load.tasks * COSTS.task  # and commits, at most one for each change
    assert tasks / load.processors < found.database < (tasks + 2.2 * 200 * COSTS.commit) / load.processors
    assert found.worker == pytest.approx(200 * COSTS.engine / load.workers, rel=0.1)


def test_a_simulated_database_that_is_too_small_ends_less_than_is_submitted():
    small = Load(workers=20, processors=1, trees=60.0, levels=1, width=10, call=0.1, seconds=30.0)
    found = simulate(COSTS, small)
    assert found.tasks < 0.9 * small.tasks
    assert found.database > 0.98
    assert found.start_p99 > 1.0


def test_a_simulated_disk_that_is_slow_makes_starts_later_and_not_fewer():
    load = Load(workers=20, processors=4, trees=20.0, levels=1, width=10, call=0.1, seconds=30.0)
    fast, slow = (simulate(replace(COSTS, flush=flush), load) for flush in (0.001, 0.05))
    assert slow.tasks == pytest.approx(fast.tasks, rel=0.05)
    assert 0.05 < slow.start_p50 < 0.3  # a few flushes
    assert fast.start_p50 < 0.05


@pytest.mark.long
def test_what_trees_cost_on_postgresql_is_measured_and_simulated():
    command = [sys.executable, "-m", "benchmarks.capacity", "--quick"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=3000)
    measured, costs, compared, simulated = done.stdout.strip().split("\n\n")
    assert (len(measured.splitlines()), len(compared.splitlines())) == (8, 4)
    assert len(simulated.splitlines()) == 2 + 2 * len(SCALES)
    assert "A commit takes" in costs


@pytest.mark.wheels
def test_apflow_and_the_floor_are_measured_in_environments_of_their_own(tmp_path: Path):
    command = [sys.executable, "-m", "benchmarks.peers", "apflow", "--quick", "--repeats", "1"]
    done = subprocess.run(
        [*command, "--environments", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert {line.split(" | ")[0] for line in done.stdout.splitlines()} >= {"| floor", "| apflow"}
    assert "not ended" not in done.stdout
