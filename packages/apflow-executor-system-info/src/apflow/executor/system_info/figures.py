"""Figures of the machine from psutil, as plain JSON with the units in the names.

Each function may block for some milliseconds: call it in a thread. Figures that a machine or a container
does not provide are null.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import psutil

Figures = dict[str, Any]

# (total, busy) seconds of each logical processor since the machine started.
CpuTimes = Sequence[tuple[float, float]]


def cpu_times() -> CpuTimes:
    """Return what is needed twice to say how busy the processors were in between."""
    return [(sum(each), sum(each) - each.idle - getattr(each, "iowait", 0.0)) for each in _times()]


def cpu_percents(before: CpuTimes, after: CpuTimes) -> list[float]:
    """Return how busy each processor was between two readings, in percent."""
    percents: list[float] = []
    for (total_before, busy_before), (total, busy) in zip(before, after, strict=False):
        passed = total - total_before
        share = (busy - busy_before) / passed if passed > 0 else 0.0
        percents.append(round(100 * min(1.0, max(0.0, share)), 1))
    return percents


def cpu(before: CpuTimes) -> Figures:
    """Return the figures of the processors, busy since `before`."""
    percents = cpu_percents(before, cpu_times())
    load = os.getloadavg() if hasattr(os, "getloadavg") else (None, None, None)
    return {
        "logical_cores": psutil.cpu_count(logical=True),
        "physical_cores": psutil.cpu_count(logical=False),
        "percent": round(sum(percents) / len(percents), 1) if percents else 0.0,
        "per_core_percent": percents,
        "frequency_mhz": _frequency(),
        "load_average_1_minute": load[0],
        "load_average_5_minutes": load[1],
        "load_average_15_minutes": load[2],
    }


def memory() -> Figures:
    """Return the figures of memory and swap."""
    main, swap = psutil.virtual_memory(), psutil.swap_memory()
    return {
        "total_bytes": main.total,
        "available_bytes": main.available,
        "used_bytes": main.used,
        "free_bytes": main.free,
        "percent": main.percent,
        "swap_total_bytes": swap.total,
        "swap_used_bytes": swap.used,
        "swap_free_bytes": swap.free,
        "swap_percent": swap.percent,
    }


def disk() -> Figures:
    """Return the figures of the root file system, of every disk partition, and what was read and written."""
    counters = psutil.disk_io_counters()
    return {
        "path": os.path.abspath(os.sep),  # noqa: PTH100 - the drive of the working folder on Windows
        **_usage(os.sep),
        "partitions": [
            {
                "device": each.device,
                "path": each.mountpoint,
                "file_system": each.fstype,
                **_usage(each.mountpoint),
            }
            for each in psutil.disk_partitions(all=False)
        ],
        "read_bytes": counters.read_bytes if counters else None,
        "written_bytes": counters.write_bytes if counters else None,
    }


def network() -> Figures:
    """Return what was sent and received, in all and by interface, and the addresses."""
    addresses, states = psutil.net_if_addrs(), psutil.net_if_stats()
    by_interface = psutil.net_io_counters(pernic=True)
    return {
        "host_name": socket.gethostname(),
        **_traffic(psutil.net_io_counters()),
        "interfaces": {
            name: {
                "is_up": states[name].isup if name in states else None,
                "speed_megabits_per_second": (states[name].speed or None) if name in states else None,
                "addresses": _internet(addresses[name]),
                **_traffic(by_interface.get(name)),
            }
            for name in addresses
        },
    }


def _times() -> Sequence[Any]:
    return psutil.cpu_times(percpu=True)


def _frequency() -> float | None:
    try:
        frequency = psutil.cpu_freq()
    except (NotImplementedError, OSError):  # in some virtual machines
        return None
    return round(frequency.current, 1) if frequency else None


def _usage(path: str) -> Figures:
    try:
        usage = psutil.disk_usage(path)
    except OSError:  # an empty drive, or one that we may not see
        return {"total_bytes": None, "used_bytes": None, "free_bytes": None, "percent": None}
    return {
        "total_bytes": usage.total,
        "used_bytes": usage.used,
        "free_bytes": usage.free,
        "percent": usage.percent,
    }


def _traffic(counters: Any) -> Figures:
    names: Mapping[str, str] = {
        "sent_bytes": "bytes_sent",
        "received_bytes": "bytes_recv",
        "sent_packets": "packets_sent",
        "received_packets": "packets_recv",
        "receive_errors": "errin",
        "send_errors": "errout",
    }
    return {ours: getattr(counters, theirs, None) for ours, theirs in names.items()}


def _internet(addresses: Sequence[Any]) -> list[str]:
    families = (socket.AF_INET, socket.AF_INET6)
    return [str(each.address) for each in addresses if each.family in families]
