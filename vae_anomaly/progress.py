"""Progress of the steps on standard error: bars in a terminal, elsewhere a line as one begins."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

if TYPE_CHECKING:
    from vae_anomaly.models.training import Check
    from vae_anomaly.steps.check import FileCheck
    from vae_anomaly.steps.file_records import FileReport

__all__ = ["check_progress", "ingest_progress", "scoring_progress", "training_progress"]


def _progress(step: str, *columns: str) -> Progress:
    """Bars on standard error; where that is no terminal, a line that says what has begun."""
    console = Console(stderr=True)
    is_seen = sys.stderr.isatty()
    if not is_seen:
        console.print(f"{step} …")
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        *(TextColumn(column) for column in columns),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not is_seen,
    )


@contextmanager
def ingest_progress() -> Iterator[Callable[[FileReport, int], None]]:
    """A bar over the files of an ingest."""
    with _progress("Ingest", "{task.fields[file]}") as progress:
        task = progress.add_task("Ingest", total=None, file="")

        def on_file(report: FileReport, n_files: int) -> None:
            progress.update(task, total=n_files, advance=1, file=report.path.rpartition("/")[2])

        yield on_file


@contextmanager
def check_progress() -> Iterator[Callable[[FileCheck, int], None]]:
    """A bar over the files of a check."""
    with _progress("Check", "{task.fields[file]}") as progress:
        task = progress.add_task("Check", total=None, file="")

        def on_file(report: FileCheck, n_files: int) -> None:
            progress.update(task, total=n_files, advance=1, file=report.path.rpartition("/")[2])

        yield on_file


@contextmanager
def training_progress() -> Iterator[Callable[[str, Check], None]]:
    """A bar over the steps of each scorer, with rows/s and the bound on held-out rows."""
    from vae_anomaly.streaming import EVERY_ASSET  # torch: for a training, which needs it anyway

    with _progress("Train", "{task.fields[rate]}", "{task.fields[bound]}") as progress:
        tasks: dict[str, TaskID] = {}

        def on_check(unit: str, check: Check) -> None:
            if unit not in tasks:
                name = "Train" if unit == EVERY_ASSET else f"Train {unit}"
                tasks[unit] = progress.add_task(name, total=check.n_steps, rate="", bound="")
            progress.update(
                tasks[unit],
                completed=check.step,
                rate=f"{check.rows_per_s:,.0f} rows/s",
                bound=f"bound {check.held_out_bound:.3f} nats",
            )

        yield on_check


@contextmanager
def scoring_progress() -> Iterator[Callable[[int, int], None]]:
    """A bar over the versions of the readings that are scored."""
    with _progress("Score") as progress:
        task = progress.add_task("Score", total=None)

        def on_group(done: int, last: int) -> None:
            progress.update(task, total=last, completed=done)

        yield on_group
