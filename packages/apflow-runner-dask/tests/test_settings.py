"""Settings that cannot be meant fail before anything is connected to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from apflow.core.errors import SettingsError
from apflow.core.settings import Settings
from apflow.runner.dask.cluster import security_of

FILES = {f"dask_tls_{name}": __file__ for name in ("ca", "cert", "key")}


@pytest.mark.parametrize("address", ["", "host:8786", "tcp://host:8786", "tcp://[::1]:8786"])
def test_without_files_nothing_is_encrypted(address: str):
    assert security_of(Settings(dask_address=address)) is None


def test_with_files_nothing_else_than_tls_is_spoken():
    security = security_of(Settings(dask_address="tls://host:8786", **FILES))
    assert security is not None
    assert security.require_encryption is True


@pytest.mark.parametrize("address", ["http://host:8786", "tcp://host", "tcp://:", "host", "tcp://host:port"])
def test_what_is_not_the_address_of_a_scheduler_is_refused(address: str):
    with pytest.raises(SettingsError, match="APFLOW_DASK_ADDRESS is"):
        security_of(Settings(dask_address=address))


@pytest.mark.parametrize(
    "given",
    [
        {"dask_address": "tls://host:8786"},
        {"dask_address": "tcp://host:8786", **FILES},
        FILES,
    ],
)
def test_an_address_for_tls_and_its_files_go_together(given: dict[str, Any]):
    with pytest.raises(SettingsError, match="give both, or neither"):
        security_of(Settings(**given))


def test_a_file_that_is_missing_is_named(tmp_path: Path):
    given = FILES | {"dask_tls_key": str(tmp_path / "key.pem")}
    with pytest.raises(SettingsError, match=r"APFLOW_DASK_TLS_KEY is '.*key.pem'"):
        security_of(Settings(dask_address="tls://host:8786", **given))
    with pytest.raises(SettingsError, match="APFLOW_DASK_TLS_CERT is missing"):
        security_of(Settings(dask_address="tls://host:8786", **FILES | {"dask_tls_cert": ""}))
