"""Runs the `tree.yaml` next to it, as from the command line, in a new database.

Commands are off until they are allowed by name: `wc` is all that this tree may run.
"""

import os
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
SETTINGS = {"APFLOW_DATABASE_URL": "duckdb:///demo.duckdb", "APFLOW_COMMAND_ALLOW": "wc"}


def main() -> int:
    """Show the command, run it, and end as it ended."""
    arguments = ["run", "flow", "--tasks-file", str(HERE.relative_to(ROOT) / "tree.yaml"), *sys.argv[1:]]
    shown = [f"{name}={value}" for name, value in SETTINGS.items()]
    print("$", *shown, "apflow", shlex.join(arguments), file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "apflow.cli", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | SETTINGS, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
