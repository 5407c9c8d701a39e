"""The program at the shell, beside a server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peers.apflowserver import HERE, ApflowServer, wait_for


@dataclass
class Shell:
    """The program, in separate processes, in the directory of a server and with its database."""

    server: ApflowServer

    def __call__(self, *arguments: str, is_there: bool = True, **more: str) -> tuple[int, str, str]:
        """Run a command and return its exit code, what it wrote, and what it said.

        Args:
            arguments: of the program.
            is_there: name the server to it.
            more: variables of the environment.
        """
        done = subprocess.run(
            self.command(arguments, is_there=is_there),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            cwd=self.server.folder,
            env=self.variables | more,
        )
        return done.returncode, done.stdout, done.stderr

    def command(self, arguments: tuple[str, ...], *, is_there: bool) -> list[str]:
        """Return what starts the program."""
        where = ["--server", self.server.url] if is_there else []
        return [sys.executable, "-m", "apflow.cli", *arguments, *where]

    def interrupt(self, folder: Path, *, is_there: bool, **more: str) -> None:
        """Press Ctrl-C in a run that the server does, and check that it is cancelled there.

        Args:
            folder: in which the program works, and the run reports its progress.
            is_there: name the server to it.
            more: variables of the environment.
        """
        begun, gone = folder / "begun", folder / "gone"
        inputs = json.dumps({"begun": str(begun), "gone": str(gone)})
        command = self.command(("run", "flow", "far_hold", "--inputs", inputs), is_there=is_there)
        started = subprocess.Popen(
            command, cwd=folder, env=self.variables | more, stderr=subprocess.PIPE, text=True
        )
        wait_for(begun.exists, 30)
        started.send_signal(signal.SIGINT)
        _, said = started.communicate(timeout=30)
        assert started.returncode == 130, said
        wait_for(gone.exists)

    def json(self, *arguments: str) -> Any:
        """Have the server do a command that succeeds, and return the document that it writes."""
        code, out, said = self(*arguments, "--json")
        assert code == 0, said
        return json.loads(out)

    @property
    def variables(self) -> dict[str, str]:
        """The environment of the program."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("APFLOW_")}
        own = {"APFLOW_DATABASE_URL": self.server.database, "APFLOW_IMPORT": "peers.farwork"}
        return kept | own | {"PYTHONPATH": str(HERE)} | dict(self.server.environment)
