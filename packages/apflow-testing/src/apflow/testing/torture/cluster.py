"""Workers and a submitter as processes, what is done to them, and what they leave."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from apflow.core import create_session
from apflow.core.model.task import to_json
from apflow.core.service.task_service import TaskService
from apflow.core.store.base import TaskQuery, TaskStore
from apflow.testing.torture.evidence import RESTART, Evidence
from apflow.testing.torture.history import History, Line
from apflow.testing.torture.trees import Array

TIMEOUT_SECONDS = 120.0  # seconds for anything to happen
POLL_INTERVAL_SECONDS = 0.01  # seconds between looks at the history
READY = "SIGTERM or Ctrl-C ends this"  # is printed by a worker that handles signals


class Cluster:
    """Some workers of one database, a submitter, and the history that they all write.

    Args:
        url: of the database, for the workers and the submitter; perhaps through a proxy.
        lease: seconds.
        restart: seconds beyond the lease, within which work must continue after a kill.
        modules: that the workers import beside the executors.
        environment: more variables of all processes.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        *,
        lease: float = 2.0,
        restart: float = RESTART,
        modules: Sequence[str] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        self.folder, self.url, self.lease, self.restart = folder, url, lease, restart
        self.modules = ["apflow.testing.torture.executors", *modules]
        self.workers: dict[int, subprocess.Popen[bytes]] = {}  # those that should live, by slot
        self.arrays: dict[str, Array] = {}  # what was given to be submitted, by key
        self.kills = 0
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self._history = folder / "history.jsonl"
        self._own = History(self._history, 0)
        self._lines: list[Line] = []  # those that were read
        self._read = 0  # bytes
        self._count = 0  # of workers that were started
        self._log = (folder / "submitter.log").open("ab")  # of what is started next
        self._logs: dict[int, Path] = {}  # of workers, by process id
        self._environment = environment or {}
        self._submitter: subprocess.Popen[bytes] | None = None
        self._decider: subprocess.Popen[bytes] | None = None
        self._started: list[subprocess.Popen[bytes]] = []
        self._codes: list[str] = []  # unsuccessful exits of workers and submitters

    # --- processes -------------------------------------------------------------------------------

    def start_worker(self, slot: int) -> int:
        """Start the worker of a slot and return its process id."""
        imports = [word for name in self.modules for word in ("--import", name)]
        self._log.close()
        self._count += 1
        self._log = (self.folder / f"worker-{self._count}.log").open("ab")
        worker = self._start([sys.executable, "-m", "apflow.cli", "worker", *imports])
        self._logs[worker.pid] = Path(self._log.name)
        self.workers[slot] = worker
        return worker.pid

    def kill(self, slot: int) -> None:
        """Kill a worker with SIGKILL."""
        worker = self.workers.pop(slot)
        self.note("killed", pid=worker.pid)
        worker.kill()
        worker.wait(TIMEOUT_SECONDS)
        self.kills += 1

    def freeze(self, slot: int) -> Callable[[], None]:
        """Stop a worker with SIGSTOP; return a function that continues it."""
        worker = self.workers[slot]
        self.note("frozen", pid=worker.pid)
        worker.send_signal(signal.SIGSTOP)

        def thaw() -> None:
            self.note("thawed", pid=worker.pid)
            worker.send_signal(signal.SIGCONT)

        return thaw

    def drain(self, slot: int) -> None:
        """End a worker with SIGTERM, and wait for its end."""
        self.wait_until_ready(slot)
        worker = self.workers.pop(slot)
        self.note("drained", pid=worker.pid)
        worker.terminate()
        self._wait_for_end(worker)

    def start_again(self) -> None:
        """Start workers again that ended by themselves: they do where the server is down at their start."""
        for slot, worker in list(self.workers.items()):
            if worker.poll() is not None:
                self.note("failed", pid=worker.pid, code=worker.returncode)
                if self._is_ready(worker):
                    self._codes.append(f"worker {worker.pid} ended by itself with {worker.returncode}")
                self.start_worker(slot)

    def stop(self) -> None:
        """End the submitter and the decider, and drain all workers at once."""
        for each in (self._submitter, self._decider):
            if each is not None and each.stdin is not None:
                each.stdin.close()
                self._wait_for_end(each)
        self._submitter = self._decider = None
        for slot in self.workers:
            self.wait_until_ready(slot)
        workers = [self.workers.pop(slot) for slot in list(self.workers)]
        for worker in workers:
            self.note("drained", pid=worker.pid)
            worker.terminate()
        for worker in workers:
            self._wait_for_end(worker)

    def end(self) -> None:
        """Kill whatever is left, and close the history."""
        self.kill_all()
        self._log.close()
        self._own.close()

    def kill_all(self) -> None:
        """Kill all processes."""
        for each in self._started:
            each.kill()
            each.wait()
            if each.stdin is not None:
                with suppress(BrokenPipeError):
                    each.stdin.close()

    def wait_until_ready(self, slot: int) -> None:
        """Wait until a worker handles signals."""
        until = time.monotonic() + TIMEOUT_SECONDS
        while not self._is_ready(self.workers[slot]):
            if time.monotonic() >= until:
                raise AssertionError(f"A worker does not start.\n{self.log()}")
            self.start_again()
            time.sleep(POLL_INTERVAL_SECONDS)

    def _is_ready(self, worker: subprocess.Popen[bytes]) -> bool:
        return READY in self._logs[worker.pid].read_text()

    def _wait_for_end(self, process: subprocess.Popen[bytes]) -> None:
        if code := process.wait(TIMEOUT_SECONDS):
            self._codes.append(f"process {process.pid} ended with {code}")

    def _start(self, command: Sequence[str], stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.environment(), stdin=stdin, stdout=self._log, stderr=self._log
        )
        self._started.append(process)
        return process

    def environment(self) -> dict[str, str]:
        """Return the variables of all processes."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith("APFLOW_")}
        plain.pop("DATABASE_URL", None)
        return plain | {
            "PYTHONPATH": os.pathsep.join(each for each in sys.path if each),
            "TMPDIR": str(self.temporary),
            "HOME": str(self.folder),
            "FAULTS_HISTORY": str(self._history),
            "APFLOW_DATABASE_URL": self.url,
            "APFLOW_BACKGROUND_DAEMON": "false",
            "APFLOW_LEASE_SECONDS": str(self.lease),
            "APFLOW_MAX_CONCURRENCY": "8",
            "APFLOW_MAX_INTERRUPTIONS": "1000",
            "APFLOW_SHUTDOWN_TIMEOUT": "0.3",
            "APFLOW_CANCEL_GRACE": "0.2",
            **self._environment,
        }

    # --- trees -----------------------------------------------------------------------------------

    def submit(self, key: str, array: Array) -> None:
        """Give a tree to the submitter, without waiting."""
        self.arrays[key] = array
        if self._submitter is None:
            self._submitter = self.start_submitter()
        stdin: IO[bytes] | None = self._submitter.stdin
        if stdin is None:
            raise AssertionError("The submitter has no standard input.")
        stdin.write(f"{json.dumps([key, str(self._write(key, array))])}\n".encode())
        stdin.flush()

    def start_submitter(self, *modules: str) -> subprocess.Popen[bytes]:
        """Start a submitter that imports these modules."""
        self._submitter = self._start(
            [sys.executable, "-m", "apflow.testing.torture.submitter", *modules], stdin=subprocess.PIPE
        )
        return self._submitter

    def kill_submitter(self) -> None:
        """Kill the submitter with SIGKILL."""
        if self._submitter is None:
            raise AssertionError("There is no submitter.")
        self._submitter.kill()
        self._submitter.wait(TIMEOUT_SECONDS)
        self._submitter = None

    def start_decider(self, *options: str) -> None:
        """Start a process that decides approvals."""
        command = [sys.executable, "-m", "apflow.testing.torture.decider", *options]
        self._decider = self._start(command, stdin=subprocess.PIPE)

    def kill_decider(self) -> None:
        """Kill the decider with SIGKILL."""
        if self._decider is None:
            raise AssertionError("There is no decider.")
        self._decider.kill()
        self._decider.wait(TIMEOUT_SECONDS)
        if self._decider.stdin is not None:
            self._decider.stdin.close()
        self._decider = None

    def submit_by_command(self, key: str, array: Array) -> None:
        """Submit a tree by `apflow run flow --background`, again until it is acknowledged."""
        self.arrays[key] = array
        options = ["--background", "--idempotency-key", key, "--tasks-file", str(self._write(key, array))]
        until = time.monotonic() + TIMEOUT_SECONDS
        while True:
            done = subprocess.run(
                [sys.executable, "-m", "apflow.cli", "run", "flow", *options, "--json"],
                cwd=self.folder,
                env=self.environment(),
                capture_output=True,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
            if done.returncode == 0:
                break
            if time.monotonic() >= until:
                raise AssertionError(f"{key} was not acknowledged.\n{done.stderr.decode()}")
        self.note("acknowledged", key=key, root_id=json.loads(done.stdout)["root_task_id"])

    def _write(self, key: str, array: Array) -> Path:
        file = self.folder / f"{key}.json"
        file.write_text(json.dumps(array))
        return file

    # --- what happened ---------------------------------------------------------------------------

    def note(self, kind: str, **facts: Any) -> None:
        """Write down what is done to the workers or to the server."""
        self._own.append(kind, time=time.monotonic(), **facts)

    def history(self) -> list[Line]:
        """Return all lines that are complete."""
        with self._history.open("rb") as file:
            file.seek(self._read)
            piece = file.read()
        whole = piece[: piece.rfind(b"\n") + 1]
        self._read += len(whole)
        self._lines += [json.loads(line) for line in whole.splitlines()]
        return self._lines

    def wait_for(self, kind: str, *, after: int = 0, but: Line | None = None, **facts: Any) -> Line:
        """Wait until such a line is in the history, beyond the first `after` lines, and return it.

        `but`: facts of which none is in the line.
        """
        until = time.monotonic() + TIMEOUT_SECONDS
        while time.monotonic() < until:
            for line in self.history()[after:]:
                if line["kind"] != kind or (but and but.items() & line.items()):
                    continue
                if facts.items() <= line.items():
                    return line
            self.start_again()
            time.sleep(POLL_INTERVAL_SECONDS)
        raise AssertionError(f"{kind} {facts} never happened.\n{self.log()}")

    def log(self) -> str:
        """Return the last that the processes said."""
        logs = sorted(self.folder.glob("*.log"), key=lambda path: path.stat().st_mtime)
        return "\n".join(f"--- {path.name}\n{path.read_text()[-1500:]}" for path in logs[-5:])

    def seen(self) -> int:
        """Return how many lines the history has: what is waited for may be beyond these."""
        return len(self.history())

    def wait_for_ends(self, keys: Sequence[str] | None = None, patience: float = TIMEOUT_SECONDS) -> bool:
        """Wait until trees have ended, all that were submitted; say whether they did."""
        until = time.monotonic() + patience
        while True:
            history = self.history()
            roots = {line["key"]: line["root_id"] for line in history if line["kind"] == "acknowledged"}
            ended = {line["root_id"] for line in history if line["kind"] == "tree_ended"}
            if all(roots.get(key) in ended for key in keys or self.arrays):
                return True
            if time.monotonic() > until:
                return False
            self.start_again()
            time.sleep(0.1)

    def pids(self) -> dict[int, int]:
        """Return the process ids of the workers, by slot."""
        return {slot: worker.pid for slot, worker in self.workers.items()}

    def slot_of(self, pid: int) -> int:
        """Return the slot of the worker with a process id."""
        return next(slot for slot, worker in self.workers.items() if worker.pid == pid)

    def evidence(self, url: str, left: Sequence[str] = ()) -> Evidence:
        """Collect what is known once all has been stopped. `url`: of the database, without a proxy."""
        running = [f"process {each.pid} still runs" for each in self._started if each.poll() is None]
        files = [f"{each} was left" for each in self.temporary.rglob("*") if each.is_file()]
        tasks, events, approvals = asyncio.run(collect(url))
        return Evidence(
            arrays=self.arrays,
            history=self.history(),
            tasks=tasks,
            events=events,
            lease=self.lease,
            restart=self.restart,
            approvals=approvals,
            left=[*running, *files, *self._codes, *left],
        )


@contextmanager
def a_cluster(folder: Path, url: str, **more: Any) -> Generator[Cluster]:
    """Make a cluster without workers, and stop all of it at the end."""
    cluster = Cluster(folder, url, **more)
    try:
        yield cluster
    finally:
        cluster.end()


async def collect(
    url: str,
) -> tuple[dict[str, dict[str, Any]], dict[str, list[dict[str, Any]]], list[dict[str, Any]]]:
    """Return all tasks by id, the stored events by root, and the approvals, as plain JSON."""
    async with create_session(url) as db:
        roots = await db.find(TaskQuery(root_only=True))
        tasks = [task for root in roots for task in await db.tree(root.id)]
        rows = {task.id: {name: to_json(value) for name, value in asdict(task).items()} for task in tasks}
        events = {root.id: await _events(db, root.id) for root in roots}
        return rows, events, await TaskService(db).approvals(status="all", limit=None)


async def _events(db: TaskStore, root_id: str) -> list[dict[str, Any]]:
    return [event.to_dict() for event in await db.events(root_id)]
