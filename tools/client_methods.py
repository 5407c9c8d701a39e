"""Writes the client's methods, one for each operation of the core's table, for it and its sync sister.

hatch run dev:python tools/client_methods.py
"""

from __future__ import annotations

import argparse
import inspect
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from repository import ROOT, report

from apflow.core import answers
from apflow.core.operations import OPERATIONS, Operation
from apflow.core.service import TaskService

FILE = Path("packages/apflow-client/src/apflow/client/operations.py")
HEAD = '''"""The operations of a server as methods.

Written by `tools/client_methods.py` from the core's table of operations.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from apflow.core.answers import {answers}
from apflow.core.states import TaskStatus
from apflow.core.task import Json
'''
CLASS = '''

class {prefix}Operations:
    """Every operation of the table, {how}."""

    @abstractmethod
    {define} _ask(self, name: str, params: Mapping[str, Json]) -> Any:
        """Call an operation and return its result as the model that the table names."""

    @abstractmethod
    def watch(self, task_id: str, after: int | None = None) -> {prefix_of_iterator}Iterator[Event]:
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


def method(operation: Operation, *, is_async: bool) -> Iterator[str]:
    """Yield the lines of one method."""
    signature = inspect.signature(getattr(TaskService, operation.method))
    given = [each for each in signature.parameters.values() if each.name != "self"]
    shown = f"({', '.join(['self', *parameters(given)])})"
    name = operation.name.replace(".", "_")
    result = type_name(operation.result)
    define, wait = ("async def", "await ") if is_async else ("def", "")
    if operation.is_stream:
        iterator = "AsyncIterator" if is_async else "Iterator"
        yield f"    def {name}{shown} -> {iterator}[{result}]:"
        yield f'        """{operation.summary}"""'
        yield f"        return self.watch({', '.join(each.name for each in given)})"
        return
    params = ", ".join(f'"{each.name}": {each.name}' for each in given)
    yield f"    {define} {name}{shown} -> {result}:"
    yield f'        """{operation.summary}"""'
    yield f'        result: {result} = {wait}self._ask("{operation.name}", {{{params}}})'
    yield "        return result"


def source() -> str:
    """Return the module as it should be."""
    named = sorted({name for name in dir(answers) for op in OPERATIONS.values() if name in type_names(op)})
    text = HEAD.format(answers=", ".join(named))
    for prefix, how in (("Async", "to be awaited"), ("Sync", "one after the other")):
        is_async = prefix == "Async"
        text += CLASS.format(
            prefix=prefix,
            how=how,
            define="async def" if is_async else "def",
            prefix_of_iterator="Async" if is_async else "",
        )
        for operation in OPERATIONS.values():
            text += "\n" + "\n".join(method(operation, is_async=is_async)) + "\n"
    command = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(FILE), "-"]
    return subprocess.run(command, cwd=ROOT, input=text, capture_output=True, text=True, check=True).stdout


def type_names(operation: Operation) -> set[str]:
    return set(type_name(operation.result).replace("list[", "").replace("]", "").split(" | "))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether it differs")
    is_checking, file, wanted = parser.parse_args().check, ROOT / FILE, source()
    differs = not file.is_file() or file.read_text() != wanted
    if is_checking:
        faults = [f"{FILE} is not what the table of operations says"] if differs else []
        return report(faults, "Run: hatch run dev:python tools/client_methods.py")
    file.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
