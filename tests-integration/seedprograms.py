"""The printed programs of the documents, and a place where one of them runs."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

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
