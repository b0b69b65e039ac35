"""What a step made of a model: its files, its figures, and what a person should know of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from vae_anomaly.decisions.rates import Interval
from vae_anomaly.errors import InputError
from vae_anomaly.table import Table

__all__ = ["Made", "check_ending", "figure", "made_table", "write_table"]

#: Endings of the tables that can be written.
ENDINGS = (".csv", ".parquet")


@dataclass(frozen=True)
class Made:
    """Result of `generate`, `interpolate`, `augment`, `embed` or `traverse`.

    Attributes
    ----------
    title : str
        Of the step.
    summary : str
        One sentence.
    written : mapping of str to Path
        What each file is, and where.
    figures : mapping of str to Interval
        Such as the AUROC with which generated rows are told from real ones.
    notes : tuple of str
        What an operator should know.
    """

    title: str
    summary: str
    written: Mapping[str, Path]
    figures: Mapping[str, Interval] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def made_table(made: Made) -> Table:
    """Where everything was written, and its figures."""
    rows = [(name, figure(value)) for name, value in made.figures.items()]
    rows += [(name, os.path.relpath(path)) for name, path in made.written.items()]
    return Table(made.title, made.summary, ("", ""), tuple(rows), made.notes)


def figure(value: Interval) -> str:
    """An AUROC with its interval.

    Examples
    --------
    >>> figure(Interval(0.523, 0.5, 0.55))
    'AUROC 0.523 (0.500–0.550)'
    """
    return f"AUROC {value.value:.3f} ({value.low:.3f}–{value.high:.3f})"


def check_ending(path: Path) -> None:
    """Refuse a file that no table can be written to, before any work.

    Raises
    ------
    InputError
        It ends otherwise than in .csv or .parquet.
    """
    if path.suffix not in ENDINGS:
        raise InputError(
            f"--out {path} ends in '{path.suffix}'; give a file that ends in {' or '.join(ENDINGS)}"
        )


def write_table(table: pa.Table, path: Path) -> Path:
    """Write a table as CSV or Parquet, by the ending; folders are made, a file is replaced."""
    check_ending(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}-{os.getpid()}")
    if path.suffix == ".csv":
        pacsv.write_csv(table, draft)
    else:
        pq.write_table(table, draft)
    os.replace(draft, path)
    return path
