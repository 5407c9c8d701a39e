"""The ports of the local cluster."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any

import psutil

from apflow.core.settings import read_settings
from apflow.runner.dask.cluster import address_of, close_local_clusters


def listened_at() -> set[Any]:
    """Return the addresses at which this process listens."""
    found = psutil.net_connections("tcp")  # the method of `Process` has another name before psutil 6
    return {each.laddr for each in found if each.pid == os.getpid() and each.status == "LISTEN"}


def test_a_local_cluster_listens_on_loopback_only_and_starts_beside_another_one():
    """A warning, such as of a port that is in use, fails this test."""
    close_local_clusters()  # of other tests
    before = listened_at()
    with socket.socket() as taken:
        with suppress(OSError):  # another program has it
            taken.bind(("0.0.0.0", 8787))
            taken.listen()
        try:
            address_of(read_settings())
            own = {each.ip for each in listened_at() - before if each.port != 8787}
        finally:
            close_local_clusters()
    assert own == {"127.0.0.1"}
