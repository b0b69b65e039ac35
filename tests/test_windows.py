"""Sorted readings become matrices whose rows know their own series."""

from __future__ import annotations

import naive
import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from vae_anomaly.config import Contract
from vae_anomaly.data.windows import matrix_of, runs, sorted_readings

keys = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50)), max_size=40)


def table_of(entries: list[tuple[str, int]], **columns: pa.Array) -> pa.Table:
    return pa.table(
        {
            "asset": pa.array([a for a, _ in entries], pa.string()),
            "time": pa.array([t * 10**6 for _, t in entries], pa.timestamp("us", "UTC")),
            **columns,
        }
    )


@given(entries=keys, gap=st.one_of(st.none(), st.integers(1, 10)))
def test_runs_equal_a_loop(entries: list[tuple[str, int]], gap: int | None) -> None:
    ordered = sorted(entries)
    assert runs(table_of(ordered), gap).tolist() == naive.runs(ordered, gap)


@given(entries=keys)
def test_sorting_puts_series_together_in_time_order(entries: list[tuple[str, int]]) -> None:
    table = sorted_readings(table_of(entries))
    times = table["time"].cast(pa.int64()).to_pylist()
    assert list(
        zip(table["asset"].to_pylist(), [t // 10**6 for t in times], strict=True)
    ) == sorted(entries)


def test_matrix_has_sensors_then_context_and_nan_for_missing() -> None:
    contract = Contract(time="t", sensors=("b", "a"), context=("load",))
    table = table_of(
        [("x", 0), ("x", 1)],
        a=pa.array([1.0, None]),
        b=pa.array([2.0, 3.0]),
        load=pa.array([0.5, 0.6]),
        label=pa.array([None, 2], pa.int32()),
    )
    matrix = matrix_of(table, contract)
    assert_array_equal(matrix.values, [[2.0, 1.0, 0.5], [3.0, np.nan, 0.6]])
    assert_array_equal(matrix.label, [-1, 2])
    assert_array_equal(matrix.run, [0, 1])


def test_matrix_without_labels_is_unknown() -> None:
    contract = Contract(time="t", sensors=("a",))
    assert_array_equal(matrix_of(table_of([("x", 0)], a=pa.array([1.0])), contract).label, [-1])
