"""An executor that only workers which import this module have."""

from __future__ import annotations

from peers.marks import Marks

from apflow.core import executor_register


@executor_register()
class MarksOfWorker(Marks):
    """Writes down when it begins and when it ends."""

    id = "marks_of_worker"
