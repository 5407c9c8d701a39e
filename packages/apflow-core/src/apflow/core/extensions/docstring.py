"""What a docstring says about a function and its parameters: Google, NumPy and reStructuredText styles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Docstring:
    """The parts of a docstring that describe a task."""

    summary: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict[str, str])


def read_docstring(text: str) -> Docstring:
    """Read a docstring whose indentation is removed. What cannot be parsed is only a summary."""
    if not text:
        return Docstring()
    from docstring_parser import ParseError, parse

    try:
        parsed = parse(text)
    except ParseError:
        return Docstring(text.partition("\n")[0])
    described = {each.arg_name.lstrip("*"): each.description or "" for each in parsed.params}
    return Docstring(
        parsed.short_description or "",
        {name: " ".join(text.split()) for name, text in described.items() if text},
    )
