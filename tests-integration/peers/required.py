"""What tests need of the system. Where it is missing, they are skipped; in CI (the variable `CI`) they fail.

`.ci/run` installs all of it, so that no test is left out unseen.
"""

from __future__ import annotations

import os
import shutil
from typing import Final, NoReturn

import pytest

SYSTEM_PATH: Final = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin:/sbin"
BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")


def missing(what: str) -> NoReturn:
    """Skip the running test because of what is missing; fail it in CI."""
    (pytest.fail if is_ci() else pytest.skip)(what)


def program(*names: str, path: str = SYSTEM_PATH) -> str:
    """Return the path of the first of these programs that is installed.

    Args:
        names: of programs that do the same.
        path: where to look, as in the variable `PATH`.
    """
    for name in names:
        found = shutil.which(name, path=path)
        if found is not None:
            return found
    missing(f"{names[0]} is not installed.")


def needs(is_there: object, what: str) -> pytest.MarkDecorator:
    """Return a mark that leaves tests out where something is missing. In CI they run, and fail.

    Args:
        is_there: whether it is there.
        what: the reason, such as "takes root".
    """
    return pytest.mark.skipif(not is_there and not is_ci(), reason=what)


def is_ci() -> bool:
    """Return whether nothing may be missing."""
    return bool(os.environ.get("CI"))
