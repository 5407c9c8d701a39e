"""The former path of the executor that puts results together."""

from apflow.executor.aggregate import AggregateResultsExecutor

__all__ = ["AggregateResultsExecutor"]
