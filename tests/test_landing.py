"""Rows reach `readings` once, whoever else is at work; what is left has its reason."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import naive
import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vae_anomaly.config import Contract, Limit
from vae_anomaly.data.contract import Checked
from vae_anomaly.data.lake import QUARANTINE, READINGS, Lake, rows
from vae_anomaly.data.landing import Counts, land
from vae_anomaly.data.refusals import REJECTED_SCHEMA
from vae_anomaly.data.schemas import readings_schema

CONTRACT = Contract(time="time", asset="asset", sensors=("flow", "p (bar)"))


def chunk(entries: list[tuple[str, int, float | None, float]], first_row: int = 1) -> Checked:
    """Accepted rows from (asset, second, flow, pressure)."""
    schema = readings_schema(CONTRACT)
    n = len(entries)
    table = pa.table(
        {
            "asset": pa.array([e[0] for e in entries], pa.string()),
            "time": pa.array([e[1] * 10**6 for e in entries], pa.timestamp("us", "UTC")),
            "flow": pa.array([e[2] for e in entries], pa.float64()),
            "p (bar)": pa.array([e[3] for e in entries], pa.float64()),
            "label": pa.nulls(n, pa.int32()),
            "mode": pa.nulls(n, pa.string()),
            "row": pa.array(range(first_row, first_row + n), pa.int64()),
        }
    )
    names = [name for name in schema.names if name in table.column_names]
    return Checked(table.select(names), REJECTED_SCHEMA.empty_table())


def landed(lake: Lake) -> list[tuple[str, int, float | None, float]]:
    found = [r for batch in rows(lake.open(READINGS)) for r in batch.to_pylist()]
    found.sort(key=lambda r: r["ingest"])
    return [(r["asset"], int(r["time"].timestamp()), r["flow"], r["p (bar)"]) for r in found]


def quarantined(lake: Lake) -> list[tuple[int, str]]:
    if not DeltaTable.is_deltatable(str(lake.root / QUARANTINE)):
        return []
    return sorted(
        (r["row"], r["reason"]) for b in rows(lake.open(QUARANTINE)) for r in b.to_pylist()
    )


entry = st.tuples(
    st.sampled_from("ab"),
    st.integers(0, 6),
    st.one_of(st.none(), st.sampled_from([1.0, 2.0])),
    st.sampled_from([5.0, 6.0]),
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(chunks=st.lists(st.lists(entry, max_size=12), min_size=1, max_size=4))
def test_landing_equals_a_dictionary(
    chunks: list[list[tuple[str, int, float | None, float]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"), CONTRACT)
    lake.writable(READINGS)
    twin = naive.Landing()
    for number, entries in enumerate(chunks):
        got = land(lake, chunk(entries), content_id=f"c{number}", path="f", last_row=len(entries))
        assert got == Counts(*twin.land(entries))
        assert got.complete
    assert sorted(landed(lake), key=repr) == sorted(twin.rows(), key=repr)


def test_landing_twice_adds_nothing_and_counts_the_same(tmp_path: Path) -> None:
    lake = Lake(tmp_path, CONTRACT)
    entries = [("a", 1, 1.0, 5.0), ("a", 1, 1.0, 5.0), ("a", 1, 2.0, 5.0), ("b", 1, None, 5.0)]
    first = land(lake, chunk(entries), content_id="c", path="f", last_row=4)
    version = lake.open(READINGS).version()
    again = land(lake, chunk(entries), content_id="c", path="f", last_row=4)
    assert first == again == Counts(n_read=4, n_accepted=2, n_quarantined=1, n_duplicate=1)
    assert lake.open(READINGS).version() == version
    assert quarantined(lake) == [(3, "conflicting")]


@contextmanager
def killed_before_the_quarantine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whoever lands a chunk in the block dies between the commits to the two tables."""

    class Killed(BaseException):
        pass

    def killed(*_: object) -> bool:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("vae_anomaly.data.landing._quarantine", killed)
        with pytest.raises(Killed):
            yield


def test_killed_between_the_two_tables_is_mended_by_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(tmp_path, CONTRACT)
    entries = [("a", 1, 1.0, 5.0), ("a", 1, 2.0, 5.0)]
    with killed_before_the_quarantine(monkeypatch):
        land(lake, chunk(entries), content_id="c", path="f", last_row=2)
    # a rival lands the same keys in between: the first row stays, and the counts do too
    land(lake, chunk([("a", 1, 2.0, 5.0)]), content_id="rival", path="g", last_row=1)
    again = land(lake, chunk(entries), content_id="c", path="f", last_row=2)
    assert again == Counts(n_read=2, n_accepted=1, n_quarantined=1)
    assert landed(lake) == [("a", 1, 1.0, 5.0)]
    assert len(quarantined(lake)) == 2


def test_conflicting_row_keeps_its_raw_values(tmp_path: Path) -> None:
    lake = Lake(tmp_path, CONTRACT)
    land(lake, chunk([("a", 1, 1.0, 5.0)]), content_id="c", path="f", last_row=1)
    land(lake, chunk([("a", 1, None, 6.0)], first_row=7), content_id="d", path="g", last_row=7)
    (row,) = [r for b in rows(lake.open(QUARANTINE)) for r in b.to_pylist()]
    raw = json.loads(row["raw"])
    assert (raw["flow"], raw["p (bar)"], row["row"], row["path"]) == (None, "6.0", 7, "g")


def test_new_sensor_of_a_mended_contract_gets_its_column(tmp_path: Path) -> None:
    before = Lake(tmp_path, Contract(time="time", asset="asset", sensors=("flow",)))
    table = chunk([("a", 1, 1.0, 5.0)]).accepted
    old = Checked(table.drop_columns(["p (bar)"]), REJECTED_SCHEMA.empty_table())
    land(before, old, content_id="c", path="f", last_row=1)
    after = Lake(tmp_path, CONTRACT)
    got = land(after, chunk([("a", 2, 1.0, 5.0)]), content_id="d", path="g", last_row=1)
    assert got.n_accepted == 1
    assert landed(after) == [("a", 1, 1.0, None), ("a", 2, 1.0, 5.0)]
    # and a narrower contract still lands beside it
    narrow = Checked(chunk([("a", 3, 1.0, 5.0)]).accepted.drop_columns(["p (bar)"]), old.rejected)
    land(before, narrow, content_id="e", path="h", last_row=1)
    assert landed(after)[-1] == ("a", 3, 1.0, None)


def test_lookup_reads_only_the_chunk_s_own_assets_and_times(tmp_path: Path) -> None:
    """A hundred thousand rows beside a chunk change nothing of its result."""
    lake = Lake(tmp_path, CONTRACT)
    n = 100_000
    rng = np.random.default_rng(0)
    many = [("a", int(t), float(v), 5.0) for t, v in zip(range(n), rng.normal(size=n), strict=True)]
    land(lake, chunk(many), content_id="c", path="f", last_row=n)
    probe = [many[77], ("a", 78, 99.0, 5.0), ("a", n + 1, 0.0, 5.0), ("b", 77, 0.0, 5.0)]
    got = land(lake, chunk(probe), content_id="d", path="g", last_row=4)
    assert got == Counts(n_read=4, n_accepted=2, n_quarantined=1, n_duplicate=1)


def test_sensor_that_the_contract_gains_makes_no_row_conflict(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    narrow = Contract(time="time", asset="asset", sensors=("flow",))
    before = Lake(tmp_path, narrow)
    old = chunk([("a", 1, 1.0, 5.0), ("a", 2, 2.0, 6.0)])
    land(before, replace(old, accepted=old.accepted.drop(["p (bar)"])), content_id="c", path="f",
         last_row=2)  # fmt: skip

    lake = Lake(tmp_path, CONTRACT)
    entries = [("a", 1, 1.0, 5.0), ("a", 2, 9.0, 6.0), ("a", 3, 3.0, 7.0)]
    got = land(lake, chunk(entries), content_id="d", path="f", last_row=3)
    assert got == Counts(n_read=3, n_accepted=1, n_quarantined=1, n_duplicate=1)
    assert landed(lake) == [("a", 1, 1.0, None), ("a", 2, 2.0, None), ("a", 3, 3.0, 7.0)]
    assert "gains 'p (bar)'" in caplog.text
    # what was read under the wider contract is held against it
    got = land(lake, chunk([("a", 3, 3.0, 8.0)]), content_id="e", path="f", last_row=1)
    assert got == Counts(n_read=1, n_quarantined=1)


LATEST = 3  # seconds


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(chunks=st.lists(st.lists(entry, max_size=12), min_size=1, max_size=3))
def test_landing_refuses_what_lies_after_the_latest_moment(
    chunks: list[list[tuple[str, int, float | None, float]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Counts are those of the other rows alone, and the same when an attempt is repeated."""
    lake = Lake(tmp_path_factory.mktemp("lake"), CONTRACT)
    twin = naive.Landing()
    for number, entries in enumerate(chunks):
        options = {"content_id": f"c{number}", "path": "f", "last_row": len(entries)}
        got = land(lake, chunk(entries), limit=Limit(LATEST * 10**6), **options)
        within = [e for e in entries if e[1] <= LATEST]
        _, accepted, refused, duplicate = twin.land(within)
        refused += len(entries) - len(within)
        assert got == Counts(len(entries), accepted, refused, duplicate)
        assert land(lake, chunk(entries), limit=Limit(10**12), **options) == got, "a later attempt"
    lake.writable(READINGS)
    assert sorted(landed(lake), key=repr) == sorted(twin.rows(), key=repr)


def test_killed_landing_refuses_later_what_it_refused_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The moment of the first attempt holds for all rows of the content, and for no other."""
    lake = Lake(tmp_path, CONTRACT)
    entries = [("a", 5, 1.0, 5.0), ("b", 5, 1.0, 5.0)]
    with killed_before_the_quarantine(monkeypatch):
        land(lake, chunk(entries), content_id="c", path="f", last_row=2, limit=Limit(4 * 10**6))
    again = land(lake, chunk(entries), content_id="c", path="f", last_row=2, limit=Limit(6 * 10**6))
    more = chunk([("a", 6, 1.0, 5.0), ("a", 4, 1.0, 5.0)], first_row=3)
    rest = land(lake, more, content_id="c", path="f", last_row=4, limit=Limit(6 * 10**6))
    assert again == Counts(n_read=2, n_quarantined=2)
    assert rest == Counts(n_read=2, n_accepted=1, n_quarantined=1)
    assert quarantined(lake) == [(1, "time_ahead"), (2, "time_ahead"), (3, "time_ahead")]
    land(lake, chunk(entries), content_id="d", path="g", last_row=2, limit=Limit(6 * 10**6))
    assert landed(lake) == [("a", 4, 1.0, 5.0), ("a", 5, 1.0, 5.0), ("b", 5, 1.0, 5.0)]


def test_what_a_rival_with_a_later_clock_has_accepted_stays_accepted(tmp_path: Path) -> None:
    lake = Lake(tmp_path, CONTRACT)
    entries = [("a", 5, 1.0, 5.0), ("a", 5, 1.0, 5.0), ("a", 6, 1.0, 5.0)]
    first, more = chunk(entries[:1]), chunk(entries)
    land(lake, first, content_id="c", path="f", last_row=1, limit=Limit(9 * 10**6))
    got = land(lake, more, content_id="c", path="f", last_row=3, limit=Limit(4 * 10**6))
    assert got == Counts(n_read=3, n_accepted=1, n_quarantined=2)
    assert landed(lake) == entries[:1]
