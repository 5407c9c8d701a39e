"""Dask: futures on a local cluster with one worker process."""

from __future__ import annotations

from distributed import Client, LocalCluster
from shapes import timed


def nothing(*_: int) -> int:
    """Return a small result."""
    return 1


def main() -> None:
    """Start the cluster and measure."""
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):

        def run(shape: str, size: int) -> int:
            futures = [client.submit(nothing, pure=False)]
            while len(futures) < size:
                needs = [] if shape == "fan" else [futures[-1]]
                futures.append(client.submit(nothing, *needs, pure=False))
            if shape == "fan":
                futures.append(client.submit(nothing, futures, pure=False))
            return sum(client.gather(futures))

        timed("distributed", run)


if __name__ == "__main__":
    main()
