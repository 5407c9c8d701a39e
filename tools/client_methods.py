"""Writes what of the client follows from something else.

That is its methods, one for each operation of the core's table; and its sister for programs without asyncio,
which is the client less what makes it one for asyncio.

hatch run dev:python tools/client_methods.py
"""

from __future__ import annotations

import argparse
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from repository import ROOT, report

from apflow.core.service import results
from apflow.core.service.operations import OPERATIONS, Operation
from apflow.core.service.task_service import TaskService

FOLDER = Path("packages/apflow-client/src/apflow/client")
# Patterns of asyncio code, and their replacements in synchronous code.
WITHOUT_ASYNCIO = {
    r"\b(async|await) ": "",
    r"\b(__)?a(close|closing|enter__|exit__|iter_\w+)\b": r"\1\2",
    r"\bAsync(BaseTransport|Client|Generator|Iterator|Retrying)\b": r"\1",
    r"\bAsync(?=Operations\b)": "Sync",
    r"\bclass (?=Client\b)": "class Sync",
    r"\basync_(?=transport\b)": "sync_",
    r"^import asyncio\n": "",
    r"\basyncio\.sleep\b": "time.sleep",
    r"for (\w+) in (\w+):\s+yield \1\n": r"yield from \2\n",
    r"The client for asyncio\.": "The client for programs without asyncio.\n\n"
    "Written by `tools/client_methods.py` from the one for asyncio.\n",
    r"to be awaited": "one after the other",
}
HEAD = '''"""The operations of a server as methods.

Written by `tools/client_methods.py` from the core's table of operations.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Json
from apflow.core.service.results import {answers}
'''
CLASS = '''

class AsyncOperations:
    """Every operation of the table, to be awaited."""

    @abstractmethod
    async def _ask(self, name: str, params: Mapping[str, Json]) -> Any:
        """Call an operation and return its result as the model that the table names."""

    @abstractmethod
    def watch(self, task_id: str, after: int | None = None) -> AsyncIterator[Event]:
        """Yield the events of a task's tree until its final one."""
'''


def type_name(kind: Any) -> str:
    """Return a type as source text."""
    if isinstance(kind, UnionType):
        return " | ".join(map(type_name, get_args(kind)))
    if get_origin(kind) is list:
        return f"list[{type_name(get_args(kind)[0])}]"
    return str(kind.__name__)


def parameters(given: Sequence[inspect.Parameter]) -> Iterator[str]:
    """Yield parameters as a signature writes them. Their annotations are source text already."""
    is_keyword = False
    for each in given:
        if each.kind is each.KEYWORD_ONLY and not is_keyword:
            is_keyword = True
            yield "*"
        default = "" if each.default is each.empty else f" = {each.default!r}"
        yield f"{each.name}: {each.annotation}{default}"


def method(operation: Operation) -> Iterator[str]:
    """Yield the lines of one method."""
    signature = inspect.signature(getattr(TaskService, operation.method))
    given = [each for each in signature.parameters.values() if each.name != "self"]
    shown = f"({', '.join(['self', *parameters(given)])})"
    name = operation.name.replace(".", "_")
    result = type_name(operation.result)
    if operation.is_stream:
        yield f"    def {name}{shown} -> AsyncIterator[{result}]:"
        yield f'        """{operation.summary}"""'
        yield f"        return self.watch({', '.join(each.name for each in given)})"
        return
    params = ", ".join(f'"{each.name}": {each.name}' for each in given)
    yield f"    async def {name}{shown} -> {result}:"
    yield f'        """{operation.summary}"""'
    yield f'        answer: {result} = await self._ask("{operation.name}", {{{params}}})'
    yield "        return answer"


def operations() -> str:
    """Return the source of all methods, for the client and for its sister."""
    named = sorted({name for name in dir(results) for op in OPERATIONS.values() if name in type_names(op)})
    methods = ["\n".join(method(operation)) for operation in OPERATIONS.values()]
    text = "\n\n".join([CLASS.rstrip(), *methods]) + "\n"
    return HEAD.format(answers=", ".join(named)) + text + without_asyncio(text)


def without_asyncio(source: str) -> str:
    """Return what a source is for programs without asyncio."""
    for pattern, replacement in WITHOUT_ASYNCIO.items():
        source = re.sub(pattern, replacement, source, flags=re.MULTILINE)
    return source


def formatted(source: str, file: Path) -> str:
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(file), "-"]
    return subprocess.run(command, cwd=ROOT, input=source, capture_output=True, text=True, check=True).stdout


def files() -> dict[Path, str]:
    """Return what is written, by file."""
    sync_client = without_asyncio((ROOT / FOLDER / "asyncclient.py").read_text())
    written = {FOLDER / "operations.py": operations(), FOLDER / "syncclient.py": sync_client}
    return {file: formatted(source, file) for file, source in written.items()}


def type_names(operation: Operation) -> set[str]:
    return set(type_name(operation.result).replace("list[", "").replace("]", "").split(" | "))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether it differs")
    is_checking = parser.parse_args().check
    different = {
        file: source
        for file, source in files().items()
        if not (ROOT / file).is_file() or (ROOT / file).read_text() != source
    }
    if is_checking:
        faults = [f"{file} is not what it is written from" for file in different]
        return report(faults, "Run: hatch run dev:python tools/client_methods.py")
    for file, source in different.items():
        (ROOT / file).write_text(source)
    return 0


if __name__ == "__main__":
    sys.exit(main())
