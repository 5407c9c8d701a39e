"""The rows of the table, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from benchmarks.line import Line

Measure = Callable[[], list[Line]]


def _dask(count: int) -> list[Line]:
    from benchmarks.cluster import calls  # here: it imports Dask, which the other rows are measured without

    return calls(count)


def rows(is_quick: bool) -> Mapping[str, Measure]:
    """Return what can be measured; one row may print several lines."""
    from benchmarks import keeping, memory, network, purging, reopening, running, serving, several, starting

    if is_quick:
        return {
            "fan_out_1000": partial(running.fan_out, 1000),
            "for_each_1000": partial(running.for_each, 1000),
            "logging_1000": partial(running.logging_tasks, 1000, 10),
            "chain_50": partial(running.chain, 50),
            "latency": partial(running.latency, 20),
            "sleep_500": partial(running.sleeping, 500, 0.1),
            "create_1000": partial(keeping.creating, 1000),
            "load_1000": partial(keeping.loading, 1000),
            "reopen": partial(reopening.reopening, 5),
            "beside_20000": partial(reopening.many, 20_000),
            "purge_20000": partial(purging.purging, 20_000, 4.0),
            "import": partial(starting.imports, 3),
            "cli": partial(starting.commands, 3),
            "memory_1000": partial(memory.memory, 1000),
            "postgres_fan_out_1000": partial(several.fan_out, 1000),
            "postgres_workers": partial(several.processes, 2, 4),
            "postgres_submit": partial(several.submitting, 5),
            "postgres_placed": partial(several.placing, 50),
            "dask": partial(_dask, 100),
            "rest": partial(network.calling, 50),
            "serve": partial(serving.serving, 20),
        }
    return {
        "fan_out_1000": partial(running.fan_out, 1000),
        "for_each_1000": partial(running.for_each, 1000),
        "for_each_10000": partial(running.for_each, 10_000),
        "fan_out_10000": partial(running.fan_out, 10_000),
        "fan_out_100000": partial(running.fan_out, 100_000),
        "logging_1000": partial(running.logging_tasks, 1000, 10),
        "chain_200": partial(running.chain, 200),
        "chain_5000": partial(running.chain, 5000),
        "latency": partial(running.latency, 200),
        "sleep_500": partial(running.sleeping, 500, 0.1),
        "create_10000": partial(keeping.creating, 10_000),
        "load_10000": partial(keeping.loading, 10_000),
        "reopen": partial(reopening.reopening, 100),
        "beside_1000000": partial(reopening.many, 1_000_000),
        "purge_100000": partial(purging.purging, 100_000),
        "import": partial(starting.imports, 10),
        "cli": partial(starting.commands, 10),
        "memory_100000": partial(memory.memory, 100_000),
        "postgres_fan_out_1000": partial(several.fan_out, 1000),
        "postgres_workers": partial(several.processes, 4, 100),
        "postgres_submit": partial(several.submitting, 200),
        "postgres_placed": partial(several.placing, 1000),
        "dask": partial(_dask, 1000),
        "rest": partial(network.calling, 500),
        "serve": partial(serving.serving, 200),
    }
