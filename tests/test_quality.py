"""Every cell ends in one state; a value of bad quality is none, whatever stands in its cell."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vae_anomaly.config import Contract, Quality, Sensor
from vae_anomaly.data.contract import Checked, check_batch
from vae_anomaly.data.quality import MOST_CODES, Cell, read_codes


def checked(contract: Contract, **cells: list[bytes | None]) -> Checked:
    n = len(next(iter(cells.values())))
    columns = {name: pa.array(column, pa.binary()) for name, column in cells.items()}
    columns.setdefault("time", pa.array([b"2026-03-09 10:00:%02d" % i for i in range(n)]))
    own = {"_row": pa.array(range(1, n + 1), pa.int64()), "_broken": pa.nulls(n, pa.string())}
    return check_batch(pa.record_batch(columns | own), contract, asset="a")


def test_texts_of_historians_mean_no_value_and_are_counted() -> None:
    cells = [b"1", b" I/O Timeout ", b"inp outrange", b"--", b"NaN", None, b"open"]
    found = checked(Contract(time="time", sensors=("flow",)), flow=cells)
    assert found.accepted["flow"].to_pylist() == [1.0, None, None, None, None, None]
    assert found.rejected["reason"].to_pylist() == ["not_a_number"]
    assert found.cells == Counter(
        {
            Cell("flow", "value"): 1,
            Cell("flow", "text", "I/O Timeout"): 1,
            Cell("flow", "text", "inp outrange"): 1,
            Cell("flow", "text", "--"): 1,
            Cell("flow", "text", "NaN"): 1,
            Cell("flow", "empty"): 1,
            Cell("flow", "refused", "not_a_number"): 1,
        }
    )


def test_texts_can_be_set() -> None:
    contract = Contract(time="time", sensors=("flow",), quality=Quality(texts=("open",)))
    found = checked(contract, flow=[b"Open", b"Bad"])
    assert found.accepted["flow"].to_pylist() == [None]
    assert found.rejected["row"].to_pylist() == [2]


def test_value_of_bad_quality_is_missing_and_refuses_nothing() -> None:
    contract = Contract(
        time="time",
        quality=Quality(column="status", good=("Good", "192")),
        sensors=(Sensor(name="flow", high=10), Sensor(name="valve", kind="binary", quality="q")),
    )
    found = checked(
        contract,
        flow=[b"1", b"99999", b"broken", b"2"],
        valve=[b"1", b"1", b"7", b"0"],
        status=[b"good", b"Bad", b"", b"192"],
        q=[b"192", b"Good", b"0", b"Uncertain"],
    )
    assert not found.rejected.num_rows
    assert found.accepted["flow"].to_pylist() == [1.0, None, None, 2.0]
    assert found.accepted["valve"].to_pylist() == [1.0, 1.0, None, None]
    assert found.cells[Cell("flow", "quality", "Bad")] == 1
    assert found.cells[Cell("flow", "quality", "")] == 1
    assert found.cells[Cell("valve", "quality", "Uncertain")] == 1
    assert found.cells.total() == 8


@pytest.mark.parametrize(
    "codes",
    [
        pa.array([192, 0, None], pa.int16()),
        pa.array([192.0, 0.0, None]),
        pa.array(["192", "0", None]).dictionary_encode(),
        pa.array([b" 192 ", b"0", None]),
    ],
)
def test_codes_of_every_type_are_read(codes: pa.Array) -> None:
    assert read_codes(codes, Quality()).is_good.tolist() == [True, False, False]
    assert Quality.model_validate({"good": [192, "Good"]}) == Quality(good=("192", "Good"))


def test_a_column_of_a_thousand_codes_stays_small() -> None:
    contract = Contract(time="time", sensors=("flow",), quality=Quality(column="q"))
    times = [b"2026-03-09 10:%02d:%02d" % divmod(i, 60) for i in range(1000)]
    codes = [b"%d" % (i + 1000) for i in range(1000)]
    found = checked(contract, time=times, flow=[b"1"] * 1000, q=codes)
    assert len(found.cells) == MOST_CODES + 1
    assert found.cells.total() == 1000


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"1", b"-2.5", b"", b"Bad", b"NaN", b"x", b"inf", b"900", None]),
            st.sampled_from([b"Good", b"Bad", b"", None]),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_states_of_the_cells_add_up_to_the_rows(
    rows: list[tuple[bytes | None, bytes | None]],
) -> None:
    contract = Contract(
        time="time",
        quality=Quality(column="q"),
        sensors=(Sensor(name="flow", high=100, missing="refused"), "again"),
    )
    values = [value for value, _ in rows]
    found = checked(contract, flow=values, again=values, q=[code for _, code in rows])
    for sensor in ("flow", "again"):
        own = {cell: n for cell, n in found.cells.items() if cell.sensor == sensor}
        assert sum(own.values()) == len(rows)
    expected = sum(code == b"Good" and value in (b"1", b"-2.5") for value, code in rows)
    assert found.cells[Cell("flow", "value")] == expected
    is_refused = {
        row
        for row, (value, code) in enumerate(rows, 1)
        if code != b"Good" or value not in (b"1", b"-2.5")
    }
    assert set(found.rejected["row"].to_pylist()) == is_refused
