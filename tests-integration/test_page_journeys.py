"""The page in a real browser: journeys, hostile strings, sessions, a restart of the server, and exports.

The journeys are in `packages/apflow-server/web/tests/journeys`, and run by Node. Here they are started, so
that they run with all other tests.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from peers import required

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tools"))

import page  # noqa: E402

TIMEOUT = 1800  # seconds, on a busy machine
# Before each merge, each width and each scheme of colours once.
SCREENS = (
    "wide, light",
    "narrow, dark",
    pytest.param("wide, dark", marks=pytest.mark.long),
    pytest.param("narrow, light", marks=pytest.mark.long),
)


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    """Install what the journeys need."""
    required.program(*required.BROWSERS)
    page.install()


def passed(file: str, **more: str) -> int:
    """Run one file of journeys, and return how many tests have passed. All must."""
    command = [page.NODE, "--test", "--test-reporter=tap", f"tests/journeys/{file}.test.mjs"]
    finished = subprocess.run(
        command,
        cwd=page.WEB,
        env=page.environment() | more,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout[-20_000:] + finished.stderr[-5_000:]
    found = re.search(r"^# pass (\d+)$", finished.stdout, re.MULTILINE)
    return int(found[1]) if found else 0


@pytest.mark.timeout(TIMEOUT + 60)
@pytest.mark.parametrize("screen", SCREENS)
def test_readers_reach_their_aims_without_errors_and_with_nothing_inaccessible(screen: str):
    assert passed("journeys", PAGE_SCREEN=screen) >= 15


@pytest.mark.timeout(TIMEOUT + 60)
@pytest.mark.parametrize("file", ["safety", "live", "restart", "session", "export"])
def test_the_page_keeps_its_promises(file: str):
    assert passed(file) >= 1
