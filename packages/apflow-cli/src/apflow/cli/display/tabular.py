"""Rows as CSV, for spreadsheets and scripts."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Sequence
from typing import TextIO

from apflow.core.model.task import Json


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[Json]], file: TextIO | None = None) -> None:
    """Write rows as CSV (RFC 4180) with a header; an absent value is empty, and an object or a list is JSON.

    Args:
        file: where to; None: standard output.
    """
    writer = csv.writer(sys.stdout if file is None else file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Json) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
