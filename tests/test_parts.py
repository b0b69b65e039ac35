"""Every row of an asset belongs to at most one part; a gap keeps windows apart."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_anomaly.config import Contract, PartRange, Parts
from vae_anomaly.data.lake import READINGS, Lake, commit
from vae_anomaly.data.parts import Interval, asset_times, read_part, split
from vae_anomaly.errors import PartsError

SECOND = 10**6


def covered(intervals: tuple[Interval, ...], times: dict[str, np.ndarray]) -> dict[str, list[str]]:
    """Part of every row, '' where it has none."""
    parts = {asset: [""] * len(t) for asset, t in times.items()}
    for i in intervals:
        for row, moment in enumerate(times[i.asset]):
            if i.start <= moment <= i.end:
                assert not parts[i.asset][row], "a row of two parts"
                parts[i.asset][row] = i.part
    return parts


@given(n=st.integers(0, 60), gap=st.integers(0, 5), shares=st.tuples(*[st.floats(0.05, 1)] * 4))
def test_shares_cut_each_asset_in_order_with_a_gap(
    n: int, gap: int, shares: tuple[float, ...]
) -> None:
    whole = sum(shares)
    train, stop, calibrate, _ = (share / whole for share in shares)
    parts = Parts(train=train, stop=stop, calibrate=calibrate, test=1 - train - stop - calibrate)
    times = {"a": np.arange(n) * SECOND, "b": np.arange(2 * n) * SECOND}
    intervals = split(times, parts.ranges(), gap=gap)
    for asset, found in covered(intervals, times).items():
        order = [
            part for i, part in enumerate(found) if part and part != (found[i - 1] if i else "")
        ]
        assert order == sorted(set(order), key=["train", "stop", "calibrate", "test"].index)
        joints = [i for i in range(1, len(found)) if found[i] != found[i - 1] and found[i - 1]]
        assert all(not found[i] for i in joints if gap), asset
        lost = found.count("")
        assert lost <= 3 * gap
    assert sum(i.n_rows for i in intervals) == sum(
        part != "" for found in covered(intervals, times).values() for part in found
    )


def test_left_context_reaches_back_over_the_gap_and_no_further() -> None:
    times = {"a": np.arange(10) * SECOND}
    halves = [PartRange(part="train", share=(0, 0.5)), PartRange(part="test", share=(0.5, 1))]
    train, test = split(times, halves, gap=2, left_context=3)
    assert (train.context_start, train.start, train.end) == (0, 0, 4 * SECOND)
    assert (test.context_start, test.start, test.n_rows) == (4 * SECOND, 7 * SECOND, 3)


def test_listed_parts_take_assets_by_name_and_period() -> None:
    times = {"d00": np.arange(10) * SECOND, "d01": np.arange(10) * SECOND}
    ranges = [
        PartRange(part="train", assets=("d00",), share=(0, 0.8)),
        PartRange(part="stop", assets=("d00",), share=(0.8, 1)),
        PartRange(part="test", assets=("d0[1-9]",), start=datetime.fromtimestamp(4, UTC)),
    ]
    found = split(times, ranges, gap=0)
    assert [(i.part, i.asset, i.n_rows) for i in found] == [
        ("train", "d00", 8),
        ("stop", "d00", 2),
        ("test", "d01", 6),
    ]


def test_asset_is_found_by_its_very_name_too() -> None:
    times = {"a[1]": np.arange(4) * SECOND}
    (found,) = split(times, [PartRange(part="train", assets=("a[1]",))], gap=0)
    assert found.n_rows == 4


def test_no_rows_at_all_are_said() -> None:
    with pytest.raises(PartsError, match="hold no rows"):
        split({}, Parts().ranges(), gap=0)


def test_overlap_and_unknown_assets_are_refused() -> None:
    times = {"a": np.arange(10) * SECOND}
    twice = [PartRange(part="train", share=(0, 0.6)), PartRange(part="test", share=(0.5, 1))]
    with pytest.raises(PartsError, match="belong to 'train' and to 'test'"):
        split(times, twice, gap=0)
    with pytest.raises(PartsError, match="have only a"):
        split(times, [PartRange(part="train", assets=("pump",))], gap=0)


def test_reading_a_part_gives_its_rows_and_marks_the_context(tmp_path: Path) -> None:
    lake = Lake(tmp_path, Contract(time="time", asset="asset", sensors=("x",)))
    table = lake.writable(READINGS)
    n = 20
    rows = pa.table(
        {
            "asset": pa.array((["b"] * n) + ["a"] * n),
            "time": pa.array(list(range(0, n * SECOND, SECOND)) * 2, pa.timestamp("us", "UTC")),
            "x": pa.array(np.arange(2.0 * n)),
            "label": pa.nulls(2 * n, pa.int32()),
            "mode": pa.nulls(2 * n, pa.string()),
            "content_id": pa.array(["c"] * 2 * n),
            "row": pa.array(range(2 * n), pa.int64()),
            "ingest": pa.array([1] * 2 * n, pa.int64()),
        }
    ).select(lake.schema(READINGS).names)
    assert commit(table, rows, {"ingest": 1})
    times = asset_times(lake.open(READINGS))
    assert {asset: len(t) for asset, t in times.items()} == {"a": n, "b": n}
    intervals = split(times, Parts().ranges(), gap=1, left_context=2)
    wanted = [i for i in intervals if i.part == "calibrate"]
    part = read_part(lake.open(READINGS), wanted)
    assert part.judged.sum() == sum(i.n_rows for i in wanted) == 6
    assert (~part.judged).sum() == 4
    assert part.table["asset"].to_pylist() == ["a"] * 5 + ["b"] * 5
    with pytest.raises(PartsError, match="no rows"):
        read_part(lake.open(READINGS), [])
