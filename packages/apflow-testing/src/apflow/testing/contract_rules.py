"""What a failing test of a contract says to the author of a plugin: the rule, and how to follow it.

The rule is the name of the test, and how to follow it is the docstring of the test, else that of its class.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final

TITLE: Final = "contract of apflow"
_CONTRACTS: Final = "apflow.testing."  # modules whose test functions are rules


def explanation(test: Callable[..., Any], holder: type | None) -> str | None:
    """Return what to show below a failure of a test; None for a test that is not one of a contract.

    Args:
        test: the test function.
        holder: the class of the test, which inherits a contract; None if it is not in a class.
    """
    if holder is None or not test.__module__.startswith(_CONTRACTS):
        return None
    contract = next(each for each in holder.__mro__ if test.__name__ in vars(each))
    rule = test.__name__.removeprefix("test_").replace("_", " ")
    advice = inspect.getdoc(test) or inspect.getdoc(contract) or ""
    place = f"{test.__module__}.{contract.__name__}"
    return f"Broken rule: {rule}.\nHow to follow it: {advice}\nThe rule is in {place}."
