"""What one should know of the columns is said by name, and nothing is said of healthy ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from linear_plant import QUICK, normal_rows

from vae_anomaly import VAEDetector
from vae_anomaly.models.standardize import fit_standardizer
from vae_anomaly.scoring.columns import Column, column_notes

A, B = Column("sensor 'a'", "bar"), Column("sensor 'b'", levels=("shut", "open"))
OTHERS = tuple(Column(f"sensor {i}") for i in range(2, 6))
SIX = (A, Column("sensor 'b'", "°C"), *OTHERS)


def notes(
    rows: np.ndarray, columns: tuple[Column, ...] = SIX, *, n_context: int = 0, on_change: str = ""
) -> list[str]:
    raw = torch.from_numpy(rows)
    levels = tuple(len(column.levels) for column in columns[: len(columns) - n_context])
    standardizer = fit_standardizer(raw, n_context, levels=levels if any(levels) else ())
    return list(column_notes(raw, standardizer, columns, on_change=on_change))


HEALTHY: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "gaussian": lambda rng: rng.normal(size=4000),
    "log-normal": lambda rng: rng.lognormal(sigma=2.5, size=4000),
    "student t, 2 degrees of freedom": lambda rng: rng.standard_t(2, size=4000),
    "two-valued": lambda rng: (rng.random(4000) < 0.05).astype(np.float64),
    "counter of ten million": lambda rng: 1e7 + np.arange(4000.0),
    "nine in ten missing": lambda rng: (
        np.where(rng.random(4000) < 0.9, np.nan, 1.0) * rng.normal(size=4000)
    ),
    "rounded": lambda rng: rng.normal(size=4000).round(),
}


@pytest.mark.parametrize("kind", HEALTHY)
def test_nothing_is_said_of_a_healthy_column(kind: str) -> None:
    rng = np.random.default_rng(0)
    rows = np.column_stack([HEALTHY[kind](rng), rng.normal(size=4000)])
    assert notes(rows, (A, SIX[1])) == []


def test_a_constant_is_named_with_its_value_and_unit() -> None:
    rows = normal_rows(300, 0)
    rows[:, 0], rows[:, 1] = 7.5, np.nan
    assert notes(rows, on_change=", and a change of it is reported") == [
        "sensor 'a' is constant (7.5 bar) in training; it is judged by whether it changes, "
        "and a change of it is reported",
        "sensor 'b' has no value in training; it is not judged",
    ]


def test_a_constant_code_is_named_by_its_level() -> None:
    rows = normal_rows(300, 0)
    rows[:, 1] = 1
    assert notes(rows, (A, B, *OTHERS)) == [
        "sensor 'b' is constant (open) in training; it is judged by whether it changes"
    ]


def test_a_few_absurd_values_that_set_the_scale_are_named_with_the_span_of_the_others() -> None:
    rows = normal_rows(3000, 0)
    rows[:, 0] = np.random.default_rng(1).uniform(1, 2, size=3000)
    rows[[4, 5], 0] = 1e6
    (note,) = notes(rows)
    assert note.startswith("a few values set the scale of sensor 'a': 98 % of its rows lie between")
    assert "1.0" in note
    assert "others reach from 1.00" in note
    assert "to 1e+06 bar" in note


def test_what_hardly_varies_is_named_in_one_sentence() -> None:
    rows = normal_rows(3000, 0)
    rows[:, 0], rows[:, 3] = 0, 21.5
    rows[::300, 0], rows[1::300, 3] = 1, 22
    assert notes(rows) == [
        "in more than 99% of the training rows that have a value it is always the same one, so "
        "little is learnt of others: sensor 'a' (0 bar), sensor 3 (21.5)"
    ]


def test_what_is_hardly_ever_there_is_named() -> None:
    rows = normal_rows(3000, 0)
    rows[30:, 0] = np.nan
    assert notes(rows)[0] == (
        "sensor 'a' has a value in only 0.01 of the training rows: little is learnt of it"
    )


def test_copies_are_named_once_each_whatever_their_unit() -> None:
    rows = normal_rows(3000, 0)
    rows[:, 3], rows[:, 5] = 1.8 * rows[:, 0] + 32, -rows[:, 0]
    gaps = np.random.default_rng(0).random(3000) < 0.1
    rows[gaps[:, None] & np.isin(np.arange(6), [0, 3, 5])] = np.nan
    said = "says in all rows what sensor 'a' says, but for scale: what one of them shows counts"
    assert notes(rows) == [f"sensor 3 {said} twice", f"sensor 5 {said} twice"]
    rows[0, 3] += 1.0  # one row that differs is no copy
    assert notes(rows) == [f"sensor 5 {said} twice"]


def test_context_that_never_varies_is_named() -> None:
    rows = normal_rows(300, 0, n_context=2)
    rows[:, 7] = 4.0
    columns = (*SIX, Column("context 'speed'"), Column("level 'A' of context 'mode'"))
    assert notes(rows, columns, n_context=2) == [
        "level 'A' of context 'mode' never varies in training; it explains nothing"
    ]


def test_the_detector_names_columns_as_its_table_does(caplog: pytest.LogCaptureFixture) -> None:
    rows = normal_rows(600, 0)
    rows[:, 2] = 3.0
    named = pd.DataFrame(rows, columns=[f"tag {i}" for i in range(6)])
    for X, name in ((rows, "column 2"), (named, "column 'tag 2'")):
        detector = VAEDetector(training=QUICK, random_state=0).fit(X)
        note = f"{name} is constant (3) in training; it is judged by whether it changes"
        assert note in detector.notes_
        assert note in caplog.text
