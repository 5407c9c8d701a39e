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

from apflow.testing.torture.history import read
from faultkit.checks import Evidence
from faultkit.worker import Work

TIMEOUT_SECONDS = 120.0  # seconds for anything to happen
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
            if not self.listen():
                self.kill()
                raise AssertionError(f"The worker never said {word!r}.")

    def wait_for_lines(self, count: int) -> None:
        """Wait until the worker has written so many lines of history, or has ended."""
        while self.heard.count(b".") < count and self.listen():
            pass

    def listen(self) -> bool:
        """Hear more of the worker; say whether there was more."""
        readable, _, _ = select.select([self.pipe], [], [], TIMEOUT_SECONDS)
        more = os.read(self.pipe, 4096) if readable else b""
        self.heard += more
        return bool(more)

    def kill_after(self, seconds: float) -> None:
        """Kill the worker that many seconds from now, if it has not ended by then."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
        else:
            assert code == 0, f"The worker failed with {code}."

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(TIMEOUT_SECONDS)
        os.close(self.pipe)


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
    return plain | {
        "PYTHONPATH": str(HERE),
        "APFLOW_EVENT_QUEUE_SIZE": "100000",
        "APFLOW_MAX_INTERRUPTIONS": "1000",  # a task that two kills meet fails by the default
    }


def next_life(work: Work) -> Work:
    return replace(work, life=work.life + 1, pipe=-1)


def recovered(work: Work) -> Evidence:
    """Resume in another worker what the last one left, and return all evidence."""
    after = next_life(work)
    subprocess.run(command(after), cwd=HERE, env=environment(), check=True, timeout=TIMEOUT_SECONDS)
    return Evidence(
        array=work.array(),
        history=read(work.path / "history.jsonl"),
        found=loaded(work.path / "found.json"),
        ended=loaded(work.path / "ended.json"),
        last=after.life,
    )


def loaded(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())
