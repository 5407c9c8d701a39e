import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from peers.sshd import Sshd, a_system_user, an_sshd


@pytest.fixture(scope="session")
def server() -> Iterator[Sshd]:
    """A server, and a user there: as root an ordinary one, since sshd treats root differently."""
    with ExitStack() as stack:
        can_create = os.geteuid() == 0 and shutil.which("useradd") is not None
        user = stack.enter_context(a_system_user())[0] if can_create else None
        yield stack.enter_context(an_sshd(username=user))


@pytest.fixture(scope="session")
def own_server() -> Iterator[Sshd]:
    """A server where the current user logs in with their shell; it accepts no environment variables."""
    with an_sshd("AcceptEnv NONE") as server:
        yield server


@pytest.fixture(autouse=True)
def usual_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APFLOW_NET_POLICY", raising=False)
    monkeypatch.delenv("APFLOW_NET_ALLOW", raising=False)
