"""Calls executors on a Dask cluster: `APFLOW_RUNNER=dask`."""

from apflow.runner.dask.runner import DaskRunner

__all__ = ["DaskRunner"]
