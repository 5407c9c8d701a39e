"""The cluster that calls go to: one that users run, or a local one that this process starts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from dask import config
from distributed import LocalCluster, Security, Status
from distributed.comm.addressing import parse_address, parse_host_port
from distributed.comm.registry import get_backend

from apflow.core.errors import RunnerUnavailableError, SettingsError
from apflow.core.extensions.executor_call import FORMAT
from apflow.core.settings import Settings

ENCRYPTED: Final = ("tls", "wss")

_lock = threading.Lock()  # guards the line below
_local: dict[tuple[int, int], Any] = {}  # (workers, threads) -> the cluster of this process


def address_of(settings: Settings) -> str:
    """Return the address of the scheduler. A local cluster is started if the settings name none. Blocks.

    Raises:
        RunnerUnavailableError: the local cluster does not start.
    """
    return settings.dask_address or _local_cluster(settings.dask_workers, settings.dask_threads)


def security_of(settings: Settings) -> Security | None:
    """Return the TLS files of the settings; None if they name none.

    Raises:
        SettingsError: they name some of the three files, or one that does not exist; or the address of the
            scheduler does not go with them.
    """
    files = {
        "dask_tls_ca": settings.dask_tls_ca,
        "dask_tls_cert": settings.dask_tls_cert,
        "dask_tls_key": settings.dask_tls_key,
    }
    is_encrypted = bool(settings.dask_address) and _scheme_of(settings.dask_address) in ENCRYPTED
    if is_encrypted != any(files.values()):
        named = ", ".join(f"APFLOW_{name.upper()}" for name in files)
        raise SettingsError(
            f"APFLOW_DASK_ADDRESS is {settings.dask_address!r}. TLS takes an address that begins with "
            f"tls://, and the files {named}: give both, or neither."
        )
    if not is_encrypted:
        return None
    for name, path in files.items():
        variable = f"APFLOW_{name.upper()}"
        if not path:
            raise SettingsError(f"{variable} is missing: TLS needs all of {', '.join(files)}.")
        if not Path(path).is_file():
            raise SettingsError(f"{variable} is {path!r}, which is not a file.")
    make: Any = Security  # it has no types
    made: Security = make(
        tls_ca_file=settings.dask_tls_ca,
        tls_client_cert=settings.dask_tls_cert,
        tls_client_key=settings.dask_tls_key,
        require_encryption=True,
    )
    return made


def _scheme_of(address: str) -> str:
    """Return the protocol of the address of a scheduler, such as "tcp".

    Raises:
        SettingsError: it is not such an address.
    """
    scheme, location = parse_address(address)
    try:
        get_backend(scheme)
        parse_host_port(location)
    except ValueError as error:
        raise SettingsError(
            f"APFLOW_DASK_ADDRESS is {address!r}, which is not the address of a scheduler: {error}. Expected "
            "tcp://host:8786, or tls://host:8786 for TLS."
        ) from error
    return str(scheme)


def check_scheduler(allowed_failures: int) -> None:
    """Refuse a scheduler that repeats calls of lost workers itself: a task of effect `once` could run twice.

    Raises:
        RunnerUnavailableError: it does.
    """
    if allowed_failures:
        raise RunnerUnavailableError(
            f"The scheduler repeats calls of lost workers, whatever their effect (allowed-failures is "
            f"{allowed_failures}). Start it with DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES=0."
        )


def check_workers(workers: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse workers whose version of apflow cannot serve calls of this one.

    Args:
        workers: by address, what `call_service.describe` says of each.

    Raises:
        RunnerUnavailableError: there are such workers.
    """
    odd = {address: each["version"] for address, each in workers.items() if each["format"] != FORMAT}
    if odd:
        shown = ", ".join(f"{address} has {version}" for address, version in list(odd.items())[:5])
        raise RunnerUnavailableError(
            f"Workers of the cluster have another version of apflow-core: {shown}. Install the version that "
            "is used here."
        )


def close_local_clusters() -> None:
    """End the local clusters of this process. The next call starts another one. Blocks."""
    with _lock:
        clusters = list(_local.values())
        _local.clear()
    for cluster in clusters:
        cluster.close()


def _local_cluster(workers: int, threads: int) -> str:
    make: Any = LocalCluster  # its types do not allow it to have no dashboard
    shown = logging.getLogger("distributed")
    if shown.level == logging.INFO:  # as its import has set it
        shown.setLevel(logging.WARNING)
    with _lock:
        cluster = _local.get((workers, threads))
        if cluster is None or cluster.status != Status.running:
            with config.set({"distributed.scheduler.allowed-failures": 0}):
                try:
                    cluster = make(
                        n_workers=workers,
                        threads_per_worker=threads,
                        dashboard_address="127.0.0.1:0",  # None would bind port 8787 of every interface
                        silence_logs=logging.WARNING,
                    )
                except (OSError, RuntimeError, TimeoutError) as error:
                    raise RunnerUnavailableError(f"The local Dask cluster does not start: {error}") from error
            _local[workers, threads] = cluster
        return cast("str", cluster.scheduler_address)
