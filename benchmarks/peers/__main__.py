"""Measure apflow and other systems with the same trees, and print one table.

    python -m benchmarks.peers                     # all, some minutes
    python -m benchmarks.peers apflow dbos         # these, and the floor
    python -m benchmarks.peers --page              # writes the table into docs/explanation/comparison.md

Each system is installed by uv from the package index, in a virtual environment that is kept in
`--environments`, and runs in a new process, in an empty home. Needs `uv`, and nothing of a system.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.peers.peers import BY_NAME, FLOOR, PEERS, ROOT, Peer
from benchmarks.peers.programs.shapes import SHAPES

SIZES = {"one": 1, "chain": 100, "fan": 1000}
QUICK = {"one": 1, "chain": 5, "fan": 10}
PAGE = ROOT / "docs" / "explanation" / "comparison.md"
TABLE = re.compile(r"(?<=<!-- figures -->\n\n).*?(?=\n<!-- end of figures -->)", re.DOTALL)
ENVIRONMENTS = Path.home() / ".cache" / "apflow-peers"
TIMEOUT_SECONDS = 1800


@dataclass(frozen=True)
class Figures:
    """What one system has taken.

    Attributes:
        seconds: the median of the runs of each shape; None where the system has failed or not ended.
    """

    peer: Peer
    version: str
    seconds: dict[str, float | None]


def main() -> int:
    """Measure the systems that were asked for, one after the other."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("peer", nargs="*", help=f"of {', '.join(BY_NAME)}")
    parser.add_argument("--quick", action="store_true", help="small trees, to see that everything works")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each tree (3); their median counts")
    parser.add_argument("--page", action="store_true", help="write the table into the page")
    parser.add_argument("--environments", type=Path, default=ENVIRONMENTS, metavar="FOLDER")
    given = parser.parse_args()
    unknown = [name for name in given.peer if name not in BY_NAME]
    if unknown:
        parser.error(f"no system here is called {unknown[0]!r}; there are: {', '.join(BY_NAME)}")
    chosen = [each for each in PEERS if not given.peer or each.name in (FLOOR, *given.peer)]
    sizes = QUICK if given.quick else SIZES
    figures = [measured(peer, sizes, given.repeats, given.environments) for peer in chosen]
    text = table(figures, sizes, given.repeats)
    print(text)
    if given.page:
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")
    return 0 if all(None not in each.seconds.values() for each in figures) else 1


def with_table(page: str, text: str) -> str:
    """Return a page with other figures."""
    replaced, count = TABLE.subn(lambda _: text, page)
    if count != 1:
        sys.exit(f"{PAGE} has no place for figures, from <!-- figures --> to <!-- end of figures -->")
    return replaced


def measured(peer: Peer, sizes: dict[str, int], repeats: int, environments: Path) -> Figures:
    """Install a system, and measure every shape in a new process."""
    python = installed(peer, environments / peer.name)
    version, seconds = "", dict[str, float | None]()
    for shape in SHAPES:
        print(f"{peer.title}: {shape} {sizes[shape]} ...", file=sys.stderr, flush=True)
        answer = run(peer, python, shape, sizes[shape], repeats)
        seconds[shape] = median(answer["seconds"]) if answer else None
        version = answer["version"] if answer else version
    return Figures(peer, version, seconds)


def installed(peer: Peer, folder: Path) -> Path:
    """Return the Python of the environment of a system, which is made once and brought up to date."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, folder], check=True)
    if peer.requirements:
        command = ["uv", "pip", "install", "--quiet", "--upgrade", "--python", python]
        subprocess.run([*command, *peer.requirements], check=True)
    return python


def run(peer: Peer, python: Path, shape: str, size: int, repeats: int) -> dict[str, object] | None:
    """Run the program of a system in an empty home; return what it says, or None if it fails."""
    with tempfile.TemporaryDirectory(prefix="apflow-peers-", ignore_cleanup_errors=True) as home:
        variables = {"HOME": home, "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **dict(peer.variables)}
        command = [python, peer.program, shape, str(size), "--repeats", str(repeats)]
        try:
            done = subprocess.run(
                command, cwd=home, env=variables, capture_output=True, text=True,
                timeout=TIMEOUT_SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            print(f"{peer.title}: not ended after {TIMEOUT_SECONDS} s", file=sys.stderr)
            return None
    if done.returncode:
        print(f"{peer.title} has failed:\n{done.stderr[-2000:]}", file=sys.stderr)
        return None
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


def table(figures: list[Figures], sizes: dict[str, int], repeats: int) -> str:
    """Return the figures as Markdown."""
    heads = {"one": "one task", "chain": f"chain of {sizes['chain']}", "fan": f"fan of {sizes['fan']:,}"}
    rows = [["system", "version", *heads.values(), "on disk after each task", "takes part"]]
    rows.append(["---", "---", "---:", "---:", "---:", "---", "---"])
    for each in figures:
        cells = [shown(each.seconds[shape]) for shape in SHAPES]
        rows.append([each.peer.title, each.version, *cells, each.peer.stores, each.peer.runs])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    machine = f"{processor()}, {os.cpu_count()} processors, Python {platform.python_version()}"
    return "\n".join([f"Median of {repeats} runs, in milliseconds. {machine}.", "", *lines, ""])


def processor() -> str:
    """Return the name of the processor."""
    try:
        named = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    except OSError:
        named = None
    return named[1] if named else platform.machine()


def shown(seconds: float | None) -> str:
    """Return milliseconds, thousands apart."""
    if seconds is None:
        return "not ended"
    return f"{seconds * 1000:,.0f}" if seconds >= 0.01 else f"{seconds * 1000:.1f}"


if __name__ == "__main__":
    sys.exit(main())
