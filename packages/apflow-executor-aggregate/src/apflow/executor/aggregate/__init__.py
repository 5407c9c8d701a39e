"""The executor `aggregate_results_executor`: the results of other tasks, put together."""

from apflow.executor.aggregate.errors import AggregateError, AggregateTooLargeError
from apflow.executor.aggregate.executor import AggregateResultsExecutor

__all__ = ["AggregateError", "AggregateResultsExecutor", "AggregateTooLargeError"]
