"""`NAME=VALUE` as options take it."""

from __future__ import annotations

from collections.abc import Sequence

import click


def read_pairs(option: str, given: Sequence[str], example: str) -> dict[str, str]:
    """Return the text of each name.

    Raises:
        click.UsageError: one is not of this form, or a name is repeated.
    """
    found: dict[str, str] = {}
    for each in given:
        name, sign, text = each.partition("=")
        if not sign or not name:
            raise click.UsageError(
                f"{option} {each[:80]!r} is not of the form NAME=VALUE, as in {option} {example}."
            )
        if name in found:
            raise click.UsageError(f"{option} {name} is given twice. Give each name once.")
        found[name] = text
    return found
