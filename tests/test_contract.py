"""Every row ends accepted or rejected, for the first reason that applies, as a naive twin says."""

from __future__ import annotations

import csv
import json
import os
import re
import string
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import naive
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vae_anomaly.config import Contract, Sensor, Source, TimeColumn
from vae_anomaly.data.contract import Checked, check_batch, check_header
from vae_anomaly.data.quality import Cell
from vae_anomaly.data.refusals import REASONS, REJECTED_SCHEMA
from vae_anomaly.data.schemas import readings_schema
from vae_anomaly.data.sources import list_files, read_batches
from vae_anomaly.errors import ContractError

DATA = Path(os.environ.get("VAE_ANOMALY_DATA", Path(__file__).parents[1] / "../shared/data"))

quick = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Monrovia")

PLANT = Contract(
    time="time",
    asset="asset",
    mode="mode",
    label="label",
    sensors=(
        Sensor(name="flow", unit="m3/h", low=-1, high=1000, missing="refused"),
        Sensor(name="valve", kind="binary"),
    ),
    context=("load",),
)
GOOD = {
    "time": b"2026-03-09T10:00:00Z",
    "asset": b"pump",
    "mode": b"auto",
    "label": b"0",
    "flow": b"1.5",
    "valve": b"1",
    "load": b"0.5",
}


def batch_of(cells: dict[str, list], broken: list[str | None] | None = None) -> pa.RecordBatch:
    columns = {name: pa.array(c, pa.binary()) for name, c in cells.items()}
    n_rows = len(next(iter(cells.values())))
    texts = pa.array(broken or [None] * n_rows, pa.string())
    return pa.record_batch({**columns, "_row": list(range(1, n_rows + 1)), "_broken": texts})


def checked_row(contract: Contract = PLANT, decimal: str = ".", **cells: bytes | None) -> Checked:
    """One good row with some other cells."""
    row = {name: [cell] for name, cell in (GOOD | cells).items()}
    return check_batch(batch_of(row), contract, asset="stem", decimal=decimal)


def reason_of(contract: Contract = PLANT, decimal: str = ".", **cells: bytes | None) -> str | None:
    checked = checked_row(contract, decimal, **cells)
    return next(iter(checked.rejected["reason"].to_pylist()), None)


def time_of(cell: bytes, **time: str) -> str:
    """The moment of a time cell, in UTC, or the reason against it."""
    contract = Contract(time=TimeColumn(column="time", **time), sensors=("flow",))
    checked = checked_row(contract, time=cell)
    if checked.rejected.num_rows:
        return str(checked.rejected["reason"][0])
    moment = datetime.fromtimestamp(checked.accepted["time"].cast(pa.int64())[0].as_py() / 1e6, UTC)
    return moment.replace(tzinfo=None).isoformat(sep=" ")


def assert_as_naive(
    batch: pa.RecordBatch, cells: list[dict], contract: Contract, decimal: str = "."
) -> None:
    """The batch's rows are accepted and rejected as the naive checker does row by row."""
    checked = check_batch(batch, contract, asset="stem", decimal=decimal)
    accepted, rejected = (
        {row["row"]: row for row in _with_micros(table).to_pylist()}
        for table in (checked.accepted, checked.rejected)
    )
    numbers = batch["_row"].to_pylist()
    assert sorted([*accepted, *rejected]) == numbers
    assert checked.accepted.num_rows + checked.rejected.num_rows == len(numbers)
    for number, row in zip(numbers, cells, strict=True):
        reason, reading = naive.checked_row(row, contract, "stem", decimal)
        if reason is None:
            assert accepted[number] == reading | {"row": number}
        else:
            got = rejected[number]
            assert (got["reason"], got["asset"], got["time"]) == (
                reason,
                reading["asset"],
                reading["time"],
            )


def _with_micros(table: pa.Table) -> pa.Table:
    at = table.schema.get_field_index("time")
    return table.set_column(at, "time", table["time"].cast(pa.int64()))


# ----------------------------------------------------------------------------------------- oracle

NUMBERS = (
    b"1", b"0", b"-2.5", b"+3", b"1e3", b".5", b"5.", b"-0", b" 7\t", b"2147483647.0", b"",
    None, b"NaN", b"1,5", b"1.500,2", b"\xc2\xa08", b"nan(1)", b"+nan", b"inf", b"-Infinity",
    b"1e999", b"0x10", b"1_0", b"true", b"FALSE", b"NA", b"null", b"abc", b"\xff", b"1\x00", b"--",
    b"2147483648", b"-1", b"1 2", "１".encode(), b"1'000", b"-1e300",
)  # fmt: skip
TIMES = (
    b"2020-03-09 10:34:33", b"2020-03-09T10:34:33Z", b"2020-03-09 10:34", b"2020-03-29 02:30:00",
    b"2020-10-25 02:30:00", b"2020-03-29 01:59:59.999999", b"2020-03-09T10:34:33.1234567+01:00",
    b"1899-12-31 23:59:59", b"1900-01-01", b"2199-12-31 23:59:59", b"2200-01-01", b"2020-02-30",
    b"", None, b"NaT", b"soon", b"1583750073", b"2020-03-09 10", b"2020-03-09 10:34:33,5",
    b"2020-03-09 24:00:00", b" 2020-03-09 ", b"2020-3-9", b"0000-00-00", b"2050-07-01 12:00:00",
    b"2020-03-09 10:34:33 +0130", b"2020-03-09t10:34:33z", b"2020-03-09T", b"2020-03-09T10:34:60",
    b"\xff", b"9999-12-31 23:59:59-23:00", b"2020-03-09Z", b"2020-03-09 10:34:33+24:00",
    b"1940-05-16 00:30:00", b"1916-04-30 23:15:00", b"1972-01-07 00:20:00",
)  # fmt: skip
NAMES = (b"A", b" B ", b"M\xc3\xbc", b"1", b"", None, b"n/a", b"\xff")


def cells_of(pool: tuple[bytes | None, ...], n_easy: int) -> st.SearchStrategy[bytes | None]:
    """Easy cells, any cells of the pool, and cells with a sign put in or taken out."""
    any_cell = st.sampled_from(pool)
    sign = st.sampled_from([b"", b"0", b":", b"-", b" ", b".", b",", b"e", b"+"])
    texts = st.sampled_from([cell for cell in pool if cell])
    changed = st.builds(
        lambda cell, at, taken, sign: cell[:at] + sign + cell[at + taken :],
        texts, st.integers(0, 8), st.integers(0, 1), sign,
    )  # fmt: skip
    easy = st.sampled_from(pool[:n_easy])
    return st.one_of(easy, easy, easy, any_cell, changed)


texts = st.fixed_dictionaries(
    {
        "time": cells_of(TIMES, 3),
        "asset": cells_of(NAMES, 3),
        "mode": cells_of(NAMES, 6),
        "label": cells_of(NUMBERS, 2),
        "flow": cells_of(NUMBERS, 9),
        "valve": cells_of(NUMBERS, 2),
        "load": cells_of(NUMBERS, 9),
    }
)
contracts = st.builds(
    Contract,
    time=st.builds(TimeColumn, column=st.just("time"), zone=st.sampled_from(ZONES)),
    asset=st.sampled_from([None, "asset"]),
    mode=st.sampled_from([None, "mode"]),
    label=st.sampled_from([None, "label"]),
    sensors=st.tuples(
        st.builds(
            Sensor,
            name=st.just("flow"),
            low=st.sampled_from([None, -1, 0.5]),
            high=st.sampled_from([None, 2, 1000]),
            missing=st.sampled_from(["allowed", "refused"]),
        ),
        st.just(Sensor(name="valve", kind="binary")),
    ),
    context=st.just(("load",)),
)


@quick
@given(
    rows=st.lists(texts, min_size=1, max_size=6), contract=contracts, decimal=st.sampled_from(".,")
)
def test_texts_are_checked_as_the_naive_checker_does(
    rows: list[dict], contract: Contract, decimal: str
) -> None:
    batch = batch_of({name: [row[name] for row in rows] for name in GOOD})
    assert_as_naive(batch, rows, contract, decimal)


@st.composite
def columns(draw: st.DrawFn, n_rows: int, *, named: bool) -> pa.Array:
    """A column of any type; of the types that have a name as a text, if `named`."""
    whole = st.integers(-(2**31), 2**31 - 1)
    kinds: list[tuple[pa.DataType, st.SearchStrategy]] = [
        (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
        (pa.uint8(), st.integers(0, 255)),
        (pa.bool_(), st.booleans()),
        (pa.string(), st.sampled_from(["A", "1.5", " 7 ", "true", "2020-03-09 10:00:00", "é", ""])),
        (pa.large_string(), st.sampled_from(["B", "-2", "inf", "nan"])),
        (pa.dictionary(pa.int8(), pa.string()), st.sampled_from(["A", "0", "2020-03-09"])),
        (pa.binary(), st.sampled_from([b"A", b"1", b"\xff"])),
        (pa.null(), st.none()),
    ]
    if not named:
        kinds += [
            (pa.float64(), st.floats() | st.sampled_from([0.0, 1.0])),
            (pa.float32(), st.floats(width=32)),
            (pa.decimal128(20, 3), st.decimals(-(10**9), 10**9, places=3)),
            (pa.date32(), whole),
            (pa.date64(), whole.map(lambda day: day * 86_400_000 // 1000 * 1000)),
            (pa.time32("s"), st.integers(0, 86_399)),
            (pa.duration("ms"), whole),
            (pa.list_(pa.int8()), st.lists(st.integers(0, 9), max_size=2)),
        ]
        near = st.integers(-(3 * 10**9), 8 * 10**9)
        for unit, factor in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)):
            counts = near if unit != "ns" else st.integers(-(9 * 10**9), 9 * 10**9)
            scaled = st.builds(lambda n, f, d: n * f + d % f, counts, st.just(factor), whole)
            kinds += [
                (pa.timestamp(unit), scaled),
                (pa.timestamp(unit, "UTC"), scaled),
                (pa.timestamp(unit, "Europe/Berlin"), scaled),
            ]
    kind, values = draw(st.sampled_from(kinds))
    cells = draw(st.lists(st.none() | values, min_size=n_rows, max_size=n_rows))
    if pa.types.is_temporal(kind) and not pa.types.is_time(kind):
        stored = pa.int32() if pa.types.is_date32(kind) else pa.int64()
        return pa.array(cells, stored).view(kind)
    return pa.array(cells, kind)


def naive_cells(column: pa.Array) -> list[object]:
    """Cells of a typed column as the naive checker takes them."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return naive_cells(column.dictionary_decode())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return [None if cell is None else cell.encode() for cell in column.to_pylist()]
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        units = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
        date_unit = 86_400 * 10**9 if pa.types.is_date32(kind) else 10**6
        unit = units[kind.unit] if pa.types.is_timestamp(kind) else date_unit
        is_utc = pa.types.is_timestamp(kind) and kind.tz is not None
        counts = column.view(pa.int32() if pa.types.is_date32(kind) else pa.int64()).to_pylist()
        return [None if count is None else (count, unit, is_utc) for count in counts]
    if pa.types.is_time(kind) or pa.types.is_duration(kind) or pa.types.is_list(kind):
        return [object() if is_there else None for is_there in column.is_valid().to_pylist()]
    return list(column.to_pylist())


@quick
@given(data=st.data(), contract=contracts, n_rows=st.integers(0, 5))
def test_typed_parquet_is_checked_as_the_naive_checker_does(
    data: st.DataObject, contract: Contract, n_rows: int, tmp_path: Path
) -> None:
    drawn = {
        name: data.draw(columns(n_rows, named=name in ("asset", "mode")), name) for name in GOOD
    }
    pq.write_table(pa.table(drawn), tmp_path / "a.parquet")
    (file,) = list_files(Source(path=str(tmp_path / "a.parquet")))
    for batch in read_batches(file, Source(path=file.path)):
        cells = {name: naive_cells(batch[name]) for name in GOOD}
        rows = [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]
        assert_as_naive(batch, rows, contract)


@quick
@given(
    body=st.lists(st.sampled_from([*TIMES[:3], *NUMBERS[:9], b",", b",", b"\n", b'"', b"\xff"])),
    batch_rows=st.integers(1, 4),
)
def test_any_bytes_end_accepted_or_rejected(
    body: list[bytes], batch_rows: int, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_bytes(b"time,flow\n" + b"".join(body))
    (file,) = list_files(Source(path=str(tmp_path / "a.csv")))
    contract, numbers, n_rows = Contract(time="time", sensors=("flow",)), [], 0
    for batch in read_batches(file, Source(path=file.path), batch_rows=batch_rows):
        checked = check_batch(batch, contract, asset="a")
        numbers += checked.accepted["row"].to_pylist() + checked.rejected["row"].to_pylist()
        assert checked.rejected.schema == REJECTED_SCHEMA
        n_rows += batch.num_rows
    assert sorted(numbers) == list(range(1, n_rows + 1))


@quick
@given(rows=st.lists(texts, min_size=2, max_size=5))
def test_what_becomes_of_a_row_does_not_depend_on_its_neighbours(rows: list[dict]) -> None:
    together = check_batch(batch_of({n: [r[n] for r in rows] for n in GOOD}), PLANT, asset="a")
    alone = [check_batch(batch_of({n: [r[n]] for n in GOOD}), PLANT, asset="a") for r in rows]
    for table in ("accepted", "rejected"):
        apart = pa.concat_tables([getattr(checked, table) for checked in alone])
        assert getattr(together, table).drop_columns("row").equals(apart.drop_columns("row"))


# --------------------------------------------------------------------------------------- examples

#: For each reason a cell that gives it, and what the detail says.
EXAMPLES: dict[str, tuple[dict[str, bytes | None], str]] = {
    "no_asset": ({"asset": b" "}, "column 'asset' is empty"),
    "bad_text": ({"mode": b"\xff"}, r"column 'mode': '\\\\xff' is not a text; set source.encoding"),
    "no_time": ({"time": None}, "column 'time' is empty"),
    "bad_time": ({"time": b"soon"}, "column 'time': 'soon' is not a time .* in ISO 8601"),
    "not_a_number": ({"load": b"high"}, "column 'load': 'high' is not a number"),
    "not_finite": ({"load": b"-inf"}, "column 'load': '-inf' is not finite"),
    "missing_value": ({"flow": b"NA"}, "column 'flow' is empty"),
    "below_range": ({"flow": b"-1.5"}, "'-1.5' is below the lowest allowed, -1.0 m3/h"),
    "above_range": ({"flow": b"1001"}, "'1001' is above the highest allowed, 1000.0 m3/h"),
    "not_binary": ({"valve": b"0.5"}, "column 'valve': '0.5' is not 0 or 1"),
    "bad_label": ({"label": b"1.5"}, "column 'label': '1.5' is not a label"),
}


def test_every_reason_is_shown_by_an_example() -> None:
    elsewhere = {"broken_line", "nonexistent_local_time", "no_tag", "not_a_level"}
    assert {*EXAMPLES, *elsewhere} == set(REASONS)
    assert reason_of() is None


@pytest.mark.parametrize("reason", EXAMPLES)
def test_reason_comes_with_column_value_and_what_is_allowed(reason: str) -> None:
    cells, detail = EXAMPLES[reason]
    (row,) = checked_row(**cells).rejected.to_pylist()
    assert row["reason"] == reason
    assert re.search(detail, row["detail"])
    raw = {name: cell and cell.decode("utf-8", "backslashreplace") for name, cell in cells.items()}
    assert json.loads(row["raw"]) == {name: cell.decode() for name, cell in GOOD.items()} | raw


def test_ends_of_a_range_belong_to_it() -> None:
    assert reason_of(flow=b"-1") is None
    assert reason_of(flow=b"1000") is None


def test_first_reason_that_applies_is_the_rows() -> None:
    cells: dict[str, bytes | None] = {}
    for reason in reversed(EXAMPLES):
        if not cells.keys() & EXAMPLES[reason][0].keys() or reason in ("bad_time", "no_time"):
            cells |= EXAMPLES[reason][0]
            assert reason_of(**cells) == reason


def test_broken_line_is_kept_as_it_is() -> None:
    cells = {name: [cell, None] for name, cell in GOOD.items()}
    checked = check_batch(batch_of(cells, [None, "a;b"]), PLANT, asset="a")
    assert checked.accepted["row"].to_pylist() == [1]
    (row,) = checked.rejected.to_pylist()
    assert (row["row"], row["reason"], row["raw"]) == (2, "broken_line", "a;b")
    assert row["detail"] == "the line does not have the 7 columns of the header"


def test_accepted_rows_have_the_columns_of_readings() -> None:
    schema = readings_schema(PLANT)
    assert schema.names == [
        "asset", "time", "flow", "valve", "load", "label", "mode", "content_id", "row", "ingest",
    ]  # fmt: skip
    fields = [field for field in schema if field.name not in ("content_id", "ingest")]
    checked = checked_row()
    assert checked.accepted.schema == pa.schema(fields)
    assert checked.rejected.schema == REJECTED_SCHEMA
    assert checked_row(time=b"soon").accepted.schema == pa.schema(fields)


def test_asset_is_the_stem_where_the_contract_names_no_column() -> None:
    contract = Contract(time="time", sensors=("flow",))
    accepted = checked_row(contract).accepted.to_pylist()
    assert [(r["asset"], r["mode"], r["label"]) for r in accepted] == [("stem", None, None)]
    assert checked_row(contract, time=b"").rejected["asset"].to_pylist() == ["stem"]


@pytest.mark.parametrize(
    ("cell", "label"),
    [(b"0", 0), (b"1.0", 1), (b"True", 1), (b"7", 7), (b"", None), (b"NaN", None), (b"-1", None)],
)
def test_label_is_a_class_or_unknown(cell: bytes, label: int | None) -> None:
    assert checked_row(label=cell).accepted["label"].to_pylist() == [label]


def test_decimal_comma_is_honoured_and_signs_between_thousands_are_not() -> None:
    assert checked_row(decimal=",", flow=b"1,5", load=b"-2,5e1").accepted["load"][0].as_py() == -25
    for cell, decimal in ((b"1.500", ","), (b"1.500,5", ","), (b"1,500", "."), (b"1,500.5", ".")):
        assert reason_of(decimal=decimal, load=cell) == "not_a_number"


def test_text_of_a_long_cell_is_cut_in_the_detail_alone() -> None:
    (row,) = checked_row(load=b"x" * 1000).rejected.to_pylist()
    assert len(row["detail"]) < 150
    assert json.loads(row["raw"])["load"] == "x" * 1000


def test_parquet_types_without_a_text_or_a_time_are_rejected_with_their_values() -> None:
    columns = {name: pa.array([cell]) for name, cell in GOOD.items()}
    columns |= {"time": pa.array([1583750073]), "more": pa.array([{"a": [1]}])}
    batch = pa.record_batch({**columns, "_row": [1], "_broken": pa.nulls(1, pa.string())})
    (row,) = check_batch(batch, PLANT, asset="a").rejected.to_pylist()
    assert row["reason"] == "bad_time"
    assert json.loads(row["raw"])["time"] == "1583750073"
    assert json.loads(row["raw"])["more"] == "{'a': [1]}"


# ------------------------------------------------------------------------------------------- time


def test_local_time_is_told_by_the_zone() -> None:
    berlin = {"zone": "Europe/Berlin"}
    assert time_of(b"2026-03-09 10:00:00", **berlin) == "2026-03-09 09:00:00"
    assert time_of(b"2026-07-09 10:00:00", **berlin) == "2026-07-09 08:00:00"
    assert time_of(b"2026-07-09 10:00:00+05:30", **berlin) == "2026-07-09 04:30:00"
    assert time_of(b"2150-07-09 10:00:00", **berlin) == "2150-07-09 08:00:00"


def test_local_time_that_was_skipped_is_rejected_and_one_that_came_twice_is_the_first() -> None:
    berlin = {"zone": "Europe/Berlin"}
    assert time_of(b"2026-03-29 01:59:59.999999", **berlin) == "2026-03-29 00:59:59.999999"
    assert time_of(b"2026-03-29 02:00:00", **berlin) == "nonexistent_local_time"
    assert time_of(b"2026-03-29 03:00:00", **berlin) == "2026-03-29 01:00:00"
    assert time_of(b"2026-10-25 02:30:00", **berlin) == "2026-10-25 00:30:00"
    assert time_of(b"2026-10-25 03:00:00", **berlin) == "2026-10-25 02:00:00"
    contract = Contract(time=TimeColumn(column="time", zone="Europe/Berlin"), sensors=("flow",))
    (row,) = checked_row(contract, time=b"2026-03-29 02:30:00").rejected.to_pylist()
    assert "'2026-03-29 02:30:00' was skipped by the clocks of Europe/Berlin" in row["detail"]


def test_numbers_are_times_where_it_is_said_what_they_count() -> None:
    for epoch, cell in (("s", b"1783000000"), ("ms", b"1783000000000"), ("us", b"1783000000000000"),
                        ("ns", b"1783000000000000999")):  # fmt: skip
        assert time_of(cell, epoch=epoch) == "2026-07-02 13:46:40"
    assert time_of(b"1783000000.25", epoch="s") == "2026-07-02 13:46:40.250000"
    assert time_of(b" 1783000000 ", epoch="s", zone="Europe/Berlin") == "2026-07-02 13:46:40"
    assert time_of(b"1783000000000123", epoch="us") == "2026-07-02 13:46:40.000123"
    assert time_of(b"-1.5", epoch="s") == "1969-12-31 23:59:58.500000"
    assert time_of(b"3", step_s=60.0) == "1970-01-01 00:03:00"
    assert time_of(b"7", step_s=0.1) == "1970-01-01 00:00:00.700000"
    assert time_of(b"1783000000") == time_of(b"soon", epoch="s") == "bad_time"
    assert time_of(b"1e300", epoch="s") == time_of(b"9" * 18, epoch="s") == "bad_time"
    assert time_of(b"", epoch="s") == time_of(b"NaN", epoch="ms") == "no_time"


@pytest.mark.parametrize("kind", [pa.int32(), pa.int64(), pa.float64(), pa.string()])
def test_epochs_of_every_type_are_read(kind: pa.DataType) -> None:
    cells = pa.array([0, 1783000000, None]).cast(kind)
    columns = {"time": cells, "flow": pa.nulls(3), "_row": [1, 2, 3]}
    batch = pa.record_batch(columns | {"_broken": pa.nulls(3, pa.string())})
    contract = Contract(time=TimeColumn(column="time", epoch="s"), sensors=("flow",))
    checked = check_batch(batch, contract, asset="a")
    assert checked.accepted["time"].cast(pa.int64()).to_pylist() == [0, 1783000000 * 10**6]
    assert checked.rejected["reason"].to_pylist() == ["no_time"]


def test_rows_without_a_time_count_steps() -> None:
    batch = batch_of({"flow": [b"1", b"2", b"3"]})
    contract = Contract(time=TimeColumn(step_s=5.0), sensors=("flow",))
    accepted = check_batch(batch, contract, asset="a").accepted
    assert accepted["time"].cast(pa.int64()).to_pylist() == [0, 5_000_000, 10_000_000]


def test_times_lie_from_1900_to_2199() -> None:
    assert time_of(b"1900-01-01 00:00:00") == "1900-01-01 00:00:00"
    assert time_of(b"2199-12-31 23:59:59.999999") == "2199-12-31 23:59:59.999999"
    assert time_of(b"1899-12-31 23:59:59.999999") == time_of(b"2200-01-01") == "bad_time"
    assert time_of(b"2026-03-09 10:34:33 +23:59") == "2026-03-08 10:35:33"
    assert time_of(b"2026-03-09 10:34:33 +24:00") == "bad_time"
    assert time_of(b"01.01.68", format="%d.%m.%y") == "2068-01-01 00:00:00"
    assert time_of(b"01.01.69", format="%d.%m.%y") == "1969-01-01 00:00:00"


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("year", [1972, 2026])
def test_every_half_hour_of_a_year_is_told_as_by_zoneinfo(zone: str, year: int) -> None:
    start = (datetime(year, 1, 1) - datetime(1970, 1, 1)).days * 86_400
    counts = list(range(start, start + 366 * 86_400, 1800))
    columns = {"time": pa.array(counts, pa.timestamp("s")), "flow": pa.nulls(len(counts))}
    own = {"_row": range(len(counts)), "_broken": pa.nulls(len(counts), pa.string())}
    contract = Contract(time=TimeColumn(column="time", zone=zone), sensors=("flow",))
    checked = check_batch(pa.record_batch(columns | own), contract, asset="a")
    faults: set[str] = set()
    times = [naive.checked_time((c, 10**9, False), contract.time, faults) for c in counts]
    assert checked.accepted["time"].cast(pa.int64()).to_pylist() == [
        t for t in times if t is not None
    ]
    assert checked.rejected["row"].to_pylist() == [i for i, t in enumerate(times) if t is None]


def test_nanoseconds_are_cut_to_the_microsecond_before() -> None:
    columns = {"time": pa.array([-1, 1999], pa.timestamp("ns", "UTC")), "flow": pa.nulls(2)}
    batch = pa.record_batch({**columns, "_row": [1, 2], "_broken": pa.nulls(2, pa.string())})
    accepted = check_batch(batch, Contract(time="time", sensors=("flow",)), asset="a").accepted
    assert accepted["time"].cast(pa.int64()).to_pylist() == [-1, 1]


FORMATS = (
    "%d.%m.%Y %H:%M:%S", "%Y%m%d%H%M%S", "%d/%m/%y %H:%M", "%m/%d/%Y %I:%M:%S %p", "%d-%b-%y %H:%M",
    "%Y-%m-%dT%H:%M:%S.%f%z", "%Y (%m) [%d]", "100%% %d %m %Y",
)  # fmt: skip


@quick
@example("%Y-%m-%dT%H:%M:%S.%f%z", datetime(2000, 1, 1), "UTC", (8, " "))
@given(
    time_format=st.sampled_from(FORMATS),
    moment=st.datetimes(datetime(1970, 1, 1), datetime(2060, 1, 1)),
    zone=st.sampled_from(ZONES),
    change=st.none() | st.tuples(st.integers(0, 20), st.sampled_from(string.digits + ". :x")),
)
def test_formats_read_what_strptime_reads(
    time_format: str, moment: datetime, zone: str, change: tuple[int, str] | None
) -> None:
    text = moment.replace(tzinfo=UTC).strftime(time_format)
    if change is not None:
        text = text[: change[0]] + change[1] + text[change[0] + 1 :]
    contract = Contract(
        time=TimeColumn(column="time", zone=zone, format=time_format), sensors=("flow",)
    )
    row = GOOD | {"time": text.encode()}
    assert_as_naive(batch_of({name: [cell] for name, cell in row.items()}), [row], contract)


@pytest.mark.parametrize(
    "time_format", ["%d.%m. %H:%M", "%Y-%m-%d %Y", "%Y-%m-%d %q", "%Y-%m-%d %I"]
)
def test_format_that_cannot_be_read_is_refused(time_format: str) -> None:
    with pytest.raises(ContractError, match=r"time\.format"):
        time_of(b"2026-03-09", format=time_format)


# ----------------------------------------------------------------------------------------- header


def test_header_may_have_more_columns_in_any_order() -> None:
    check_header(["more", *reversed(GOOD)], PLANT)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            [*[*GOOD][:-1], "loda"],
            "'load' is missing; the file has 'loda'.*change contract.context",
        ),
        (["Time", *[*GOOD][1:]], "'time' is missing; the file has 'Time'.*change contract.time"),
        (
            ["time", "x"],
            "'asset' is missing; .*contract.asset .*Also missing: label, mode, flow, va",
        ),
        (["time;flow;load"], "one column, 'time;flow;load'; set source.delimiter to ';'"),
    ],
)
def test_missing_column_says_what_the_file_has_and_what_to_do(
    names: list[str], message: str
) -> None:
    with pytest.raises(ContractError, match=message):
        check_header(names, PLANT)
    nothing = pa.record_batch({name: pa.array([], pa.binary()) for name in names})
    with pytest.raises(ContractError, match=message):
        check_batch(nothing, PLANT, asset="a")


# ------------------------------------------------------------------------------------- real files


def ingested(source: Source, contract: Contract) -> tuple[int, pa.Table, pa.Table]:
    """Rows read, accepted and rejected of a source."""
    n_rows, checked = 0, []
    for file in list_files(source):
        for batch in read_batches(file, source):
            n_rows += batch.num_rows
            checked.append(check_batch(batch, contract, asset=Path(file.path).stem))
    accepted = pa.concat_tables([c.accepted for c in checked])
    return n_rows, accepted, pa.concat_tables([c.rejected for c in checked])


def test_water_rig_is_accepted_whole() -> None:
    folder = DATA / "skab" / "data" / "valve1"
    if not folder.is_dir():
        pytest.skip(f"SKAB is not in {DATA}; set VAE_ANOMALY_DATA")
    sensors = (
        "Accelerometer1RMS", "Accelerometer2RMS", "Current", "Pressure", "Temperature",
        "Thermocouple", "Voltage", "Volume Flow RateRMS",
    )  # fmt: skip
    contract = Contract(time="datetime", sensors=sensors, label="anomaly")
    n_rows, accepted, rejected = ingested(Source(path=str(folder), delimiter=";"), contract)
    n_lines = sum(len(p.read_bytes().splitlines()) - 1 for p in folder.glob("*.csv"))
    assert (accepted.num_rows, rejected.num_rows, n_rows) == (n_lines, 0, n_lines)
    assert len(accepted["asset"].unique()) == 16
    assert set(accepted["label"].to_pylist()) == {0, 1}
    assert all(accepted[name].null_count == 0 for name in sensors)


def test_every_row_of_a_refinery_is_accounted_for() -> None:
    path = DATA / "bibmon_real_process" / "real_process_data.csv"
    if not path.is_file():
        pytest.skip(f"the refinery's export is not in {DATA}; set VAE_ANOMALY_DATA")
    header, *lines = path.read_text().splitlines()
    contract = Contract(time=TimeColumn(column="column 1"), sensors=tuple(header.split(",")[1:]))
    (file,) = list_files(Source(path=str(path)))
    batches = list(read_batches(file, Source(path=str(path))))
    checked = [check_batch(batch, contract, asset="a") for batch in batches]
    cells = sum((c.cells for c in checked), Counter())
    assert sum(c.accepted.num_rows for c in checked) == len(lines) == 3169
    assert cells.total() == 3169 * 108
    said: Counter[Cell] = Counter()  # by csv of the standard library
    for row in csv.DictReader(path.read_text().splitlines()):
        for sensor in contract.sensor_names:
            text = row[sensor]
            is_text = bool(re.search("[A-Z][a-z]", text))
            said[Cell(sensor, "text", text) if is_text else Cell(sensor, "value")] += 1
    assert cells == said
    assert sum(n for cell, n in said.items() if cell.state == "text") == 340 + 156 + 2
