"""Executors of the journeys: they sleep, fail, try again, log and count, as a test needs."""

from __future__ import annotations

import asyncio
import logging

from apflow.core import Retry, get_task_context, task

logger = logging.getLogger("shop")


@task(id="load_orders")
async def load_orders(shop: str = "north", seconds: float = 0.2, rows: int = 40) -> dict[str, object]:
    """Load the orders of a shop.

    Args:
        shop: which shop.
        seconds: how long it takes.
        rows: how many orders.
    """
    context = get_task_context()
    for step in range(5):
        await asyncio.sleep(seconds / 5)
        context.report_progress((step + 1) / 5, f"{(step + 1) * rows // 5} of {rows} orders")
        logger.info("Loaded %s orders of %s.", (step + 1) * rows // 5, shop)
    return {"shop": shop, "orders": [{"id": number, "cost": number * 3 % 17} for number in range(rows)]}


@task(id="check_orders", retry=Retry(max_attempts=3, delay=0.3))
async def check_orders(fails: int = 0, seconds: float = 0.1) -> str:
    """Check orders; the first attempts fail.

    Args:
        fails: how many attempts fail.
        seconds: how long each takes.
    """
    await asyncio.sleep(seconds)
    context = get_task_context()
    if context.attempt <= fails:
        logger.warning("The stock service does not answer.")
        raise RuntimeError("The stock service answered with status 503: try again later.")
    return "checked"


@task(id="echo")
async def echo(text: str = "", error: str = "", log: str = "") -> str:
    """Return a string, log one, or fail with one.

    Args:
        text: what to return.
        error: what to fail with.
        log: what to log.
    """
    if log:
        logger.info("%s", log)
    if error:
        raise RuntimeError(error)
    return text


@task(id="wait_for")
async def wait_for(seconds: float = 1.0) -> float:
    """Wait.

    Args:
        seconds: how long.
    """
    await asyncio.sleep(seconds)
    return seconds
