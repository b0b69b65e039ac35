"""New rows get the rows that stand before them, from wherever they lie in the lake."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vae_anomaly.config import Contract
from vae_anomaly.data.context import with_left_context
from vae_anomaly.data.lake import READINGS, Lake, commit, new_rows, version_groups

CONTRACT = Contract(time="time", asset="asset", sensors=("x",))
SECOND = 10**6


def append(lake: Lake, keys: list[tuple[str, int]], ingest: int) -> None:
    n = len(keys)
    table = pa.table(
        {
            "asset": pa.array([a for a, _ in keys], pa.string()),
            "time": pa.array([t * SECOND for _, t in keys], pa.timestamp("us", "UTC")),
            "x": pa.array(np.zeros(n)),
            "label": pa.nulls(n, pa.int32()),
            "mode": pa.nulls(n, pa.string()),
            "content_id": pa.array(["c"] * n, pa.string()),
            "row": pa.array(range(n), pa.int64()),
            "ingest": pa.array([ingest] * n, pa.int64()),
        }
    )
    assert commit(
        lake.writable(READINGS), table.select(lake.schema(READINGS).names), {"ingest": ingest}
    )


def context_of(lake: Lake, left: int, max_gap_s: float | None) -> list[tuple[str, int, bool]]:
    readings = lake.open(READINGS)
    last = readings.version()
    table = with_left_context(readings, new_rows(readings, last, last), left, max_gap_s)
    times = table["time"].cast(pa.int64()).to_pylist()
    return [
        (asset, time // SECOND, fresh)
        for asset, time, fresh in zip(
            table["asset"].to_pylist(), times, table["_fresh"].to_pylist(), strict=True
        )
    ]


keys = st.sets(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), min_size=1, max_size=8)


@settings(
    max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(old=keys, new=keys, left=st.integers(0, 4), scale=st.sampled_from([1, 5_000, 1_000_000]))
def test_context_holds_the_rows_before_each_new_one(
    old: set[tuple[str, int]],
    new: set[tuple[str, int]],
    left: int,
    scale: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"), CONTRACT)
    append(lake, [(a, t * scale) for a, t in old - new], 1)
    append(lake, [(a, t * scale) for a, t in sorted(new)], 2)
    got = context_of(lake, left, None)
    assert [row[:2] for row in got] == sorted(row[:2] for row in got)
    assert {row[:2] for row in got if row[2]} == {(a, t * scale) for a, t in new}
    for asset in "ab":
        series = sorted(t * scale for a, t in old | new if a == asset)
        found = [t for a, t, _ in got if a == asset]
        for time in (t * scale for a, t in new if a == asset):
            before = series[max(0, series.index(time) - left) : series.index(time)]
            at = found.index(time)
            assert found[at - len(before) : at] == before


def test_nothing_before_the_longest_gap_is_read(tmp_path: Path) -> None:
    lake = Lake(tmp_path, CONTRACT)
    append(lake, [("a", 0), ("a", 90), ("a", 100)], 1)
    append(lake, [("a", 101)], 2)
    assert [t for _, t, _ in context_of(lake, 2, 10.0)] == [90, 100, 101]
    assert [t for _, t, _ in context_of(lake, 3, 10.0)] == [90, 100, 101]


def test_versions_are_grouped_by_the_rows_that_they_add(tmp_path: Path) -> None:
    lake = Lake(tmp_path, CONTRACT)
    for number in range(1, 6):
        append(lake, [("a", 10 * number + i) for i in range(4)], number)
    lake.open(READINGS).optimize.compact()
    table = lake.open(READINGS)
    groups = list(version_groups(table, 0, table.version(), max_rows=8))
    assert groups[0][0] == 0
    assert groups[-1][1] == table.version()
    assert all(a[1] + 1 == b[0] for a, b in pairwise(groups))
    sizes = [new_rows(table, first, last).num_rows for first, last in groups]
    assert sum(sizes) == 20
    assert max(sizes) <= 8
