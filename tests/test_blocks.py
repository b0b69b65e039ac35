"""Blocks hold the windows of all rows once, over one series in memory where rows go on."""

from __future__ import annotations

import naive
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_plant import with_gaps
from numpy.testing import assert_array_equal

from vae_anomaly.models.overlapping import rows_beneath
from vae_anomaly.models.standardize import Batch, Standardizer, joined
from vae_anomaly.scoring.blocks import BLOCK_ROWS, blocks


def standardizer(d: int) -> Standardizer:
    """Of sensors that are as they are to be, and a condition."""
    return Standardizer(
        torch.zeros(d + 1, dtype=torch.float64),
        torch.ones(d + 1, dtype=torch.float64),
        active=torch.ones(d, dtype=torch.bool),
        constant_value=torch.full((d,), torch.nan, dtype=torch.float64),
    )


def plain_rows(n: int, d: int) -> torch.Tensor:
    """Rows of d sensors and a condition, all of float32, with gaps."""
    rows = np.random.default_rng(0).normal(size=(n, d + 1)).astype(np.float32)
    return torch.from_numpy(with_gaps(rows.astype(np.float64)))


def run_of(lengths: list[int]) -> torch.Tensor:
    return torch.cat([torch.arange(length) for length in lengths])


def all_windows(rows: torch.Tensor, run: torch.Tensor, window: int) -> Batch:
    """The windows of all blocks, one after the other, as they are to be."""
    found, at = [], 0
    for block in blocks(rows, run, standardizer(rows.shape[1] - 1), window):
        assert block.rows.start == at
        at = block.rows.stop
        assert block.batch.x.shape[0] == len(block.batch.context) == BLOCK_ROWS
        found.append(Batch(*(part[block.own] for part in block.batch)))
    assert at == len(rows)
    return joined(found)


def assert_equal_to_a_loop(rows: torch.Tensor, run: torch.Tensor, window: int) -> None:
    got = all_windows(rows, run, window)
    sensors = rows[:, :-1].tolist()
    expected = np.array(naive.windows(sensors, run.tolist(), window))
    assert_array_equal(got.x, np.nan_to_num(expected).astype(np.float32))
    assert_array_equal(got.observed, ~np.isnan(expected))
    assert_array_equal(got.context, rows[:, -1:].nan_to_num().float())


@pytest.mark.parametrize("window", [1, 2, 5])
@pytest.mark.parametrize(
    "lengths",
    [[1], [3], [1500], [1024, 1024], [1023, 2, 1], [700, 700, 700], [1] * 1100, [2500] + [2] * 300],
)
def test_blocks_hold_the_window_of_each_row(lengths: list[int], window: int) -> None:
    assert_equal_to_a_loop(plain_rows(sum(lengths), 2), run_of(lengths), window)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.one_of(st.integers(1, 8), st.integers(300, 900)), min_size=1, max_size=6),
    st.integers(1, 40),
)
def test_series_of_any_lengths_have_their_windows(lengths: list[int], window: int) -> None:
    assert_equal_to_a_loop(plain_rows(sum(lengths), 1), run_of(lengths), window)


@pytest.mark.parametrize("most", [0, 2, 4, 7])
def test_runs_that_are_told_no_further_than_so_many_rows_do(most: int) -> None:
    assert_equal_to_a_loop(plain_rows(1300, 2), run_of([600, 700]).clamp(max=most), 5)


@pytest.mark.parametrize(
    ("lengths", "is_over"),
    [([5000], True), ([60], True), ([400] * 9, True), ([60] * 50, False), ([1] * 2000, False)],
)
def test_windows_lie_over_their_series_unless_these_are_short(
    lengths: list[int], is_over: bool
) -> None:
    """A window of 60 rows: of series of 400, a tenth of the windows is nobody's."""
    rows = plain_rows(sum(lengths), 2)
    found = [block.batch for block in blocks(rows, run_of(lengths), standardizer(2), 60)]
    for part in ("x", "observed"):
        over = [rows_beneath(getattr(batch, part), 2) is not None for batch in found]
        assert all(over) if is_over else not any(over)


def test_no_rows_make_no_block() -> None:
    assert not list(blocks(plain_rows(0, 2), torch.arange(0), standardizer(2), 3))
