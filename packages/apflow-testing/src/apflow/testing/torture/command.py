"""`apflow torture`: the fault campaign on the store of a user, with a verdict."""

from __future__ import annotations

import json
import shutil
import tempfile
import uuid
from pathlib import Path

import click

MAX_MINUTES = 24 * 60.0


@click.command()
@click.option(
    "--minutes",
    type=click.FloatRange(0, MAX_MINUTES, min_open=True),
    default=5.0,
    show_default=True,
    help="How long faults befall the workers.",
)
@click.option(
    "-w",
    "--workers",
    type=click.IntRange(2, 64),
    default=4,
    show_default=True,
    help="Number of workers; a DuckDB file has one.",
)
@click.option(
    "--size", type=click.IntRange(10, 10_000), default=100, show_default=True, help="Tasks of each tree."
)
@click.option(
    "--database",
    metavar="URL",
    help="Beside which database to work; by default that of the settings. It is not changed.",
)
@click.option("--seed", help="Decides on trees and faults; a run that failed can be repeated with its seed.")
@click.option("--keep", is_flag=True, help="Keep the evidence, also if all rules hold.")
@click.option("--json", "is_json", is_flag=True, help="Write the verdict as JSON.")
def torture(
    minutes: float,
    workers: int,
    size: int,
    database: str | None,
    seed: str | None,
    keep: bool,
    is_json: bool,
) -> None:
    """Kill and suspend workers under load on a database like yours, and check that nothing breaks.

    Works in a new DuckDB file beside yours, or in a new schema of your PostgreSQL database, and removes it at
    the end; your own tables are not touched. Runs trees while workers are killed (SIGKILL), suspended and
    stopped, and then checks each rule of apflow: each tree ends, no task is lost, tasks that may run once run
    at most once, events have no gaps, and more. The exit code is 0 if all rules hold, and 1 if not: then the
    evidence is kept.
    """
    from apflow.testing.torture.place import own_place
    from apflow.testing.torture.workers import run_campaign

    seed = seed or uuid.uuid4().hex[:8]
    folder = Path(tempfile.mkdtemp(prefix="apflow-torture-"))
    is_kept = True
    try:
        url = database or _default_url()
        with own_place(url) as place:
            click.echo(f"Campaign of {minutes:g} minutes on {place.shown}, seed {seed}.", err=True)
            verdict = run_campaign(
                place,
                folder,
                seconds=minutes * 60,
                workers=workers,
                size=size,
                seed=seed,
                report=lambda line: click.echo(line, err=True),
            )
            place.is_kept = is_kept = keep or not verdict.is_good
    except BaseException:
        is_kept = False
        raise
    finally:
        if not is_kept:
            shutil.rmtree(folder, ignore_errors=True)
    kept = {"evidence": str(folder), "database": place.shown} if is_kept else {}
    if is_json:
        click.echo(json.dumps({"schema_version": 1} | verdict.to_dict() | kept))
    else:
        for line in verdict.lines():
            click.echo(line)
        if is_kept:
            click.echo(f"The history and the logs are in {folder}; the database is {place.shown}.")
    if not verdict.is_good:
        click.echo(
            f"Repeat it with --seed {seed}. If it fails again, this store does not keep the promises of "
            "apflow here: look at the logs, try another disk or server, and report it with the evidence.",
            err=True,
        )
        raise click.exceptions.Exit(1)


def _default_url() -> str:
    from apflow.core.settings import get_settings
    from apflow.core.store.session import get_default_session

    store = get_default_session()
    if store.file is not None:
        store.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return get_settings().database_url or store.url  # the URL of a store has no password
