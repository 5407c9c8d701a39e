"""The application of Celery: messages are files, results are in SQLite."""

from __future__ import annotations

from pathlib import Path

from celery import Celery

app = Celery("celery_tasks", broker="filesystem://", backend="db+sqlite:///results.sqlite")
folder = {"data_folder_in": "messages", "data_folder_out": "messages", "control_folder": "control"}
# Without an interval, the worker looks for a message once in a second.
app.conf.broker_transport_options = folder | {"polling_interval": 0.01}
for each in set(folder.values()):
    Path(each).mkdir(exist_ok=True)


@app.task
def nothing(*_: object) -> int:
    """Return a small result."""
    return 1
