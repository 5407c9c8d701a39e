"""A tree as people see it: lines of text, HTML for notebooks, and a Mermaid flowchart. Pure.

No function recurses: a chain of 100,000 tasks works like any other tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final, Protocol

from apflow.core.model.ids import is_generated
from apflow.core.model.status import TaskStatus
from apflow.core.model.task import Task
from apflow.core.process.printable import printable

MAX_TASKS: Final = 500  # that text and HTML show
MAX_ERROR: Final = 200  # characters of an error
COLOURS: Final = {
    TaskStatus.PENDING: "#757575",
    TaskStatus.IN_PROGRESS: "#0277bd",
    TaskStatus.COMPLETED: "#2e7d32",
    TaskStatus.FAILED: "#c62828",
    TaskStatus.CANCELLED: "#ef6c00",
    TaskStatus.SKIPPED: "#9e9e9e",
}
# Mermaid reads these inside a quoted label, also as Markdown or as a directive (%%{init: ...}%%). Its
# entities are written without "&". The same characters begin an item of a list.
_ENTITIES: Final = {ord(each): f"#{ord(each)};" for each in '#"&<>`\\*%{}'}
_LIST_ITEM: Final = re.compile(r"^(\d*)([-+.)])(?=\s)")


class Node(Protocol):
    """A task with its children, such as a `TaskTreeNode`."""

    task: Task

    @property
    def is_leaf(self) -> bool:
        """Whether no node is below this one."""
        ...

    @property
    def children(self) -> Sequence[Node]:
        """The nodes below this one, in order."""
        ...

    def walk(self) -> Iterator[Node]:
        """Yield this node and all below it, each node before its children, in order."""
        ...


def tree_text(root: Node) -> str:
    """Return a line for each task: its name, its key if that says more, its status and its error."""
    lines: list[str] = []
    waiting: list[tuple[Node, str, str]] = [(root, "", "")]  # with the indentation of it and below it
    while waiting and len(lines) < MAX_TASKS:
        node, own, below = waiting.pop()
        lines.append(f"{own}{_title(node.task)}  {node.task.status}{_error(node.task)}")
        children: Sequence[Node] = () if node.is_leaf else node.children
        for at in reversed(range(len(children))):
            is_last = at == len(children) - 1
            branch, rest = ("└── ", "    ") if is_last else ("├── ", "│   ")
            waiting.append((children[at], below + branch, below + rest))
    if waiting:
        lines.append(_more(root))
    return "\n".join(lines)


def tree_html(root: Node) -> str:
    """Return nested lists with the same content, every value escaped."""
    parts = ['<ul class="apflow-tree">']
    waiting: list[Node | str] = ["</ul>", root]
    count = 0
    while waiting and count < MAX_TASKS:
        part = waiting.pop()
        if isinstance(part, str):
            parts.append(part)
            continue
        count += 1
        parts.append(f"<li>{_html_line(part.task)}")
        waiting.append("</li>")
        if not part.is_leaf:
            parts.append("<ul>")
            waiting.append("</ul>")
            waiting.extend(reversed(part.children))
    left_out = any(not isinstance(each, str) for each in waiting)
    parts.extend(each for each in reversed(waiting) if isinstance(each, str))
    if left_out:
        parts.append(f"<p>{escape(_more(root))}</p>")
    return "".join(parts)


def _html_line(task: Task) -> str:
    status = f'<span style="color:{COLOURS[task.status]}">{escape(task.status)}</span>'
    return f"<b>{escape(_title(task))}</b> {status}{escape(_error(task))}"


def tree_mermaid(root: Node) -> str:
    """Return a Mermaid flowchart of all tasks.

    An arrow leads from a dependency to the task that needs it, dotted if the dependency is optional; a line
    without an arrow leads from a task to its children. The class of a node is the status of its task.
    """
    ids = {node.task.id: f"t{at}" for at, node in enumerate(root.walk())}
    lines = ["flowchart TD"]
    for node in root.walk():
        label = _LIST_ITEM.sub(_escaped, _title(node.task).translate(_ENTITIES))
        lines.append(f'    {ids[node.task.id]}["{label}"]:::{node.task.status}')
    lines.extend(_edges(root, ids))
    lines.extend(
        f"    classDef {status} stroke:{colour},color:{colour}" for status, colour in COLOURS.items()
    )
    return "\n".join(lines) + "\n"


def _escaped(found: re.Match[str]) -> str:
    return f"{found[1]}#{ord(found[2])};"


def _edges(root: Node, ids: dict[str, str]) -> Iterator[str]:
    for node in root.walk():
        own = ids[node.task.id]
        for child in () if node.is_leaf else node.children:
            yield f"    {own} --- {ids[child.task.id]}"
        for each in node.task.dependencies:
            if each["id"] in ids:
                yield f"    {ids[each['id']]} {'-->' if each['required'] else '-.->'} {own}"


def _title(task: Task) -> str:
    """Return the name of a task, with its key if people gave it one that differs."""
    is_shown = task.key != task.name and not is_generated(task.key)
    return _line(f"{task.name} ({task.key})" if is_shown else task.name)


def _error(task: Task) -> str:
    if not task.error:
        return ""
    text = _line(task.error)
    return f": {text if len(text) <= MAX_ERROR else text[: MAX_ERROR - 3] + '...'}"


def _line(text: str) -> str:
    """Return a string as one line that no terminal takes for a command."""
    return printable(" ".join(text.split()))


def _more(root: Node) -> str:
    return f"... and {sum(1 for _ in root.walk()) - MAX_TASKS} more tasks"
