"""The floor: functions that are called in their order, with two commits to SQLite for each."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from shapes import timed


def run(shape: str, size: int) -> int:
    """Call the functions, and store when each starts and what it returns."""
    with closing(sqlite3.connect("floor.sqlite")) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("CREATE TABLE IF NOT EXISTS tasks (run INTEGER, task INTEGER, result TEXT)")
        done = 0
        for task in range(size + (shape == "fan")):
            row = db.execute("INSERT INTO tasks VALUES (0, ?, NULL)", (task,)).lastrowid
            db.commit()
            db.execute("UPDATE tasks SET result = '1' WHERE rowid = ?", (row,))
            db.commit()
            done += 1
    return done


timed(None, run)
