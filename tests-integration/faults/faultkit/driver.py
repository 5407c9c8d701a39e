"""Starts workers, kills them, and collects what they leave."""

import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from faultkit.checks import Evidence
from faultkit.history import read
from faultkit.worker import Work

PATIENCE = 120.0  # seconds for anything to happen
HERE = Path(__file__).parents[1]


@dataclass
class Worker:
    """A running worker, and the pipe through which it speaks."""

    process: subprocess.Popen[bytes]
    pipe: int
    heard: bytes = b""

    def wait_for(self, word: str) -> None:
        """Wait until the worker has said the word."""
        while f"{word}\n".encode() not in self.heard:
            readable, _, _ = select.select([self.pipe], [], [], PATIENCE)
            more = os.read(self.pipe, 100) if readable else b""
            if not more:
                self.kill()
                raise AssertionError(f"The worker never said {word!r}, only {self.heard!r}.")
            self.heard += more

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(PATIENCE)

    def ends_within(self, seconds: float) -> bool:
        """Say whether the worker ended by itself before that many seconds were over."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        assert code == 0, f"The worker failed with {code}."
        return True


def start(work: Work) -> Worker:
    listening, speaking = os.pipe()
    work.pipe = speaking
    process = subprocess.Popen(command(work), cwd=HERE, env=environment(), pass_fds=[speaking])
    os.close(speaking)
    return Worker(process, listening)


def command(work: Work) -> list[str]:
    return [sys.executable, "-m", "faultkit.worker", json.dumps(asdict(work))]


def environment() -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("APFLOW_")}
    return plain | {"PYTHONPATH": str(HERE), "APFLOW_EVENT_QUEUE_SIZE": "100000"}


def next_life(work: Work) -> Work:
    return replace(work, life=work.life + 1, pipe=-1)


def recovered(work: Work) -> Evidence:
    """Let another worker take up what the last one left, and return all that is known then."""
    after = next_life(work)
    subprocess.run(command(after), cwd=HERE, env=environment(), check=True, timeout=PATIENCE)
    return Evidence(
        array=work.array(),
        history=read(work.path / "history.jsonl"),
        found=loaded(work.path / "found.json"),
        ended=loaded(work.path / "ended.json"),
        last=after.life,
    )


def loaded(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())
