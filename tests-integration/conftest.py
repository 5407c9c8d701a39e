"""Runs the programs of the documents, each test in its own directory."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from apflow.testing.postgres import postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]

PRINTED = Path(__file__).parent / "seeds"
OURS = ("pieces.py", "frame.py", "printed.py", "cancelled.py")
FORMER, PRESENT = "aipartnerupflow", "apflow.core"


class Seeds:
    """A directory and a database for one program, and the name under which it imports apflow."""

    def __init__(self, folder: Path, name: str, database_url: str) -> None:
        self.folder = folder
        self.name = name
        self.database_url = database_url
        for file in OURS:
            self.write(file, (PRINTED / file).read_text())

    def bring(self, printed: str, file: str | None = None, replaced: Mapping[str, str] | None = None) -> str:
        """Copy a printed program into the folder and return its name there.

        `replaced` lists replacements for gaps and faults of the document.
        """
        text = (PRINTED / printed).read_text()
        for old, new in (replaced or {}).items():
            assert old in text
            text = text.replace(old, new)
        return self.write(file or Path(printed).name, text)

    def write(self, file: str, text: str) -> str:
        (self.folder / file).write_text(self.renamed(text))
        return file

    def renamed(self, text: str) -> str:
        """Return a program with only the package's name in its imports changed."""
        if self.name == FORMER:
            return text
        text = text.replace(f"{FORMER}.core.storage.sqlalchemy.models", "apflow.storage.sql")
        return re.sub(rf"\b{FORMER}(\.core[\w.]*)?(?= import)", PRESENT, text)

    def run(self, *arguments: str) -> str:
        """Run a program of the folder to its end and return what it prints."""
        return self.call(sys.executable, *arguments)

    def run_pieces(self, *pieces: str) -> str:
        """Run pieces as one program: names of files in the folder, or text of more than one line."""
        files = [
            self.write(f"piece_{n}.py", dedent(each)) if "\n" in each else each
            for n, each in enumerate(pieces)
        ]
        return self.run("pieces.py", *files)

    def run_tests(self, file: str) -> str:
        """Run a program that is a test."""
        options = ["-o", "asyncio_mode=auto", "-o", "asyncio_default_fixture_loop_scope=function"]
        return self.run("-m", "pytest", "-p", "no:cacheprovider", "--rootdir", ".", *options, file)

    def call(self, *command: str, **environment: str) -> str:
        own = self.environment() | environment
        done = subprocess.run(
            command, cwd=self.folder, env=own, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def environment(self) -> dict[str, str]:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("APFLOW_")}
        own = {"PYTHONPATH": ".", "HOME": ".", "APFLOW_DATABASE_URL": self.database_url}
        return plain | own


@pytest.fixture(params=[(FORMER, "duckdb"), (PRESENT, "duckdb"), (PRESENT, "postgresql")], ids="-".join)
def seeds(request: pytest.FixtureRequest, tmp_path: Path) -> Seeds:
    """Give a folder for one program; on each database it is the same program."""
    name, database = request.param
    on_postgres = database == "postgresql"
    url = request.getfixturevalue("postgres_url") if on_postgres else "duckdb:///seeds.duckdb"
    return Seeds(tmp_path, name, url)


class Answers(BaseHTTPRequestHandler):
    """Returns its request as JSON."""

    def do_GET(self) -> None:
        self.answer(None)

    def do_POST(self) -> None:
        self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def answer(self, asked: Any) -> None:
        body = json.dumps({"path": self.path, "asked": asked}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as peer:
        thread = threading.Thread(target=peer.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{peer.server_address[1]}"
        peer.shutdown()
        thread.join()
