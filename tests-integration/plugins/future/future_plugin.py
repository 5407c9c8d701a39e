"""Uses what no core of today has."""

from apflow.core import TaskFromTheFuture as Example

__all__ = ["Example"]
