"""The benchmarks run with one command. Nothing here depends on how fast the machine is."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def measured(*arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(
        command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, timeout=300
    ).stdout


def test_every_quick_row_has_a_figure_and_a_floor():
    lines = [json.loads(line) for line in measured("--quick", "--json").splitlines()]
    names = {line["name"] for line in lines}
    assert {"fan_out_1000", "chain_50", "latency_p50", "latency_p95", "sleep_500", "create_1000"} <= names
    assert {"load_1000", "list_1000", "import_core", "cli_version", "cli_help", "memory_1000"} <= names
    assert all(line["value"] > 0 and line["floor"] > 0 for line in lines)


def test_rows_are_chosen_by_name_and_printed_as_a_table():
    shown = measured("--quick", "import").splitlines()
    assert [line.split()[0] for line in shown[2:]] == ["row", "import_core", "import_manager"]
