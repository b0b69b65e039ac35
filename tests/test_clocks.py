"""Hours that clocks show twice are told apart by the order of the rows, as the rows were made."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_anomaly.config import Contract
from vae_anomaly.data.clocks import FileClock, OrderReport
from vae_anomaly.data.contract import check_batch

#: Zones with the UTC time at which their clocks are put back in 2026, by an hour or by half of one.
PUT_BACK = {
    "Europe/Berlin": "2026-10-25T01:00:00",
    "America/New_York": "2026-11-01T06:00:00",
    "Australia/Lord_Howe": "2026-04-04T15:00:00",
}


def contract(zone: str, period_s: float | None = None, ambiguous: str = "order") -> Contract:
    return Contract.model_validate(
        {
            "time": {"column": "time", "zone": zone, "ambiguous": ambiguous},
            "asset": "asset",
            "sampling": {"period_s": period_s},
            "sensors": ["flow"],
        }
    )


def local_rows(zone: str, moments: list[int], assets: list[str]) -> pa.RecordBatch:
    """Rows whose clocks show local time, in the order of `moments` (seconds in UTC)."""
    walls = [
        datetime.fromtimestamp(m, UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        for m in moments
    ]
    n = len(walls)
    return pa.record_batch(
        {
            "time": pa.array([f"{wall:%Y-%m-%d %H:%M:%S}".encode() for wall in walls], pa.binary()),
            "asset": pa.array(assets),
            "flow": pa.array(np.arange(n, dtype=float)),
            "_row": pa.array(range(1, n + 1), pa.int64()),
            "_broken": pa.nulls(n, pa.string()),
        }
    )


def read(batch: pa.RecordBatch, by: Contract, cuts: list[int]) -> list[int]:
    """Seconds in UTC of a file's rows, which come in batches that end at the cuts."""
    clock = FileClock(by.sampling.period_s or 0.0)
    found: list[int] = []
    for first, last in zip([0, *cuts], [*cuts, batch.num_rows], strict=True):
        checked = check_batch(batch.slice(first, last - first), by, asset="a", clock=clock)
        assert not checked.rejected.num_rows
        found += (
            checked.accepted["time"].cast(pa.timestamp("s", "UTC")).cast(pa.int64()).to_pylist()
        )
    return found


@pytest.mark.parametrize("zone", PUT_BACK)
@given(
    period=st.sampled_from([1, 7, 60, 600, 900, 1200, 1800, 2700, 3600]),
    offset=st.integers(0, 3599),
    n_assets=st.integers(1, 3),
    is_known=st.booleans(),
    data=st.data(),
)
def test_an_hour_shown_twice_is_told_apart_by_the_order_of_the_rows(
    zone: str, period: int, offset: int, n_assets: int, is_known: bool, data: st.DataObject
) -> None:
    back = int(datetime.fromisoformat(PUT_BACK[zone]).replace(tzinfo=UTC).timestamp())
    span = range(back - 2 * 3600 - offset, back + 2 * 3600, max(period, 30))
    moments = [moment for moment in span for _ in range(n_assets)]
    assets = [f"pump {number}" for _ in span for number in range(n_assets)]
    overlap = 1800 if zone == "Australia/Lord_Howe" else 3600
    if not is_known and max(period, 30) >= overlap / 2:
        return  # nobody can tell, without the period
    batch = local_rows(zone, moments, assets)
    cuts = sorted(data.draw(st.lists(st.integers(0, batch.num_rows), max_size=3)))
    by = contract(zone, max(period, 30.0) if is_known else None)
    assert read(batch, by, cuts) == moments


def test_rows_out_of_order_do_not_begin_the_second_pass() -> None:
    back = int(datetime(2026, 10, 25, 1, tzinfo=UTC).timestamp())
    moments = list(range(back - 3600, back + 3600, 60))
    moments[10], moments[11] = moments[11], moments[10]
    moments[80], moments[83] = moments[83], moments[80]
    batch = local_rows("Europe/Berlin", moments, ["a"] * len(moments))
    assert read(batch, contract("Europe/Berlin", 60.0), []) == moments


def test_first_and_second_can_be_had_always() -> None:
    moments = [int(datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp())]
    batch = local_rows("Europe/Berlin", moments, ["a"])
    assert read(batch, contract("Europe/Berlin", ambiguous="first"), []) == moments
    assert read(batch, contract("Europe/Berlin", ambiguous="second"), []) == [moments[0] + 3600]


@given(
    times=st.lists(st.integers(0, 50), min_size=1, max_size=30),
    n_assets=st.integers(1, 3),
    data=st.data(),
)
def test_rows_out_of_order_are_counted_as_one_by_one(
    times: list[int], n_assets: int, data: st.DataObject
) -> None:
    assets = [f"pump {data.draw(st.integers(0, n_assets - 1))}" for _ in times]
    latest: dict[str, int] = {}
    last: dict[str, int] = {}
    expected = [0, 0, 0]
    for row, (asset, time) in enumerate(zip(assets, times, strict=True), 1):
        expected[0] += time < latest.get(asset, time)
        if last.get(asset, time) - time > expected[1]:
            expected[1:] = last[asset] - time, row
        latest[asset], last[asset] = max(time, latest.get(asset, time)), time
    clock = FileClock()
    cut = data.draw(st.integers(0, len(times)))
    moments = pa.array(times, pa.timestamp("s", "UTC")).cast(pa.timestamp("us", "UTC"))
    rows = pa.array(range(1, len(times) + 1), pa.int64())
    for part in (slice(0, cut), slice(cut, None)):
        clock.note(pa.array(assets[part], pa.string()), moments[part], rows[part])
    assert clock.order.n_out_of_order == expected[0]
    assert clock.order.largest_step_back_s == expected[1]
    assert (clock.order == OrderReport()) == (expected[0] == 0)
