"""What is inferred of a table equals what it was written with."""

from __future__ import annotations

import csv
import io
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from vae_anomaly.config import Source
from vae_anomaly.data.infer.assets import find_keys
from vae_anomaly.data.infer.columns import Column, describe
from vae_anomaly.data.infer.dialect import Dialect, infer_dialect
from vae_anomaly.data.infer.findings import Findings, find
from vae_anomaly.data.infer.oddities import (
    count_resets,
    find_duplicates,
    find_unit_change,
    is_totaliser,
)
from vae_anomaly.data.infer.roles import find_roles
from vae_anomaly.data.infer.sample import MOST_BYTES, take_sample
from vae_anomaly.data.infer.sampling import find_pace
from vae_anomaly.data.infer.times import find_times
from vae_anomaly.data.infer.units import physical_range, unit_of, without_sentinels
from vae_anomaly.data.infer.zones import ZONES, find_changes, find_zones
from vae_anomaly.data.sources import list_files
from vae_anomaly.errors import SourceError

START = datetime(2026, 3, 9, 10, 14, 30, tzinfo=UTC)
NAMES = ("Zeit", "Fluss", "Druck °C", "Leistung")


def table(
    n_rows: int, dialect: Dialect, form: str, *, seed: int = 0, preamble: tuple[str, ...] = ()
) -> bytes:
    rng = np.random.default_rng(seed)
    rows: list[list[str]] = [list(NAMES)] if dialect.header else []
    for at in range(n_rows):
        moment = (START + at * timedelta(hours=7)).strftime(form)
        values = (f"{v:.2f}".replace(".", dialect.decimal) for v in 50 + rng.normal(size=3) * 30)
        rows.append([moment, *values])
    out = io.StringIO()
    if dialect.delimiter == "whitespace":
        out.write("".join("  ".join(row) + " \n" for row in rows))
    else:
        csv.writer(out, delimiter=dialect.delimiter).writerows(rows)
    return ("".join(f"{line}\n" for line in preamble) + out.getvalue()).encode(dialect.encoding)


def found_in(path: Path, data: bytes) -> Findings:
    path.write_bytes(data)
    source = Source(path=str(path))
    return find(take_sample(list_files(source), source))


# --------------------------------------------------------------------------------------- dialect


@settings(max_examples=150, deadline=None)
@given(
    delimiter=st.sampled_from([",", ";", "\t", "|", "whitespace"]),
    decimal=st.sampled_from([".", ","]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16"]),
    header=st.booleans(),
    preamble=st.sampled_from([(), ("Export 7",), ("Werk Süd", "", "von: 2026")]),
    form=st.sampled_from(["%Y-%m-%dT%H:%M:%S", "%d.%m.%Y_%H:%M", "%Y-%m-%d_%H:%M:%S.%f"]),
    seed=st.integers(0, 99),
)
def test_dialect_is_the_one_that_a_table_was_written_in(
    delimiter: str,
    decimal: str,
    encoding: str,
    header: bool,
    preamble: tuple[str, ...],
    form: str,
    seed: int,
) -> None:
    assume(not (delimiter == "," and decimal == ","))
    assume(not (delimiter == "whitespace" and header))  # names with blanks
    wrote = Dialect(encoding, delimiter, decimal, header, len(preamble))
    found = infer_dialect(table(40, wrote, form, seed=seed, preamble=preamble))
    assert (found.delimiter, found.decimal) == (delimiter, decimal)
    assert (found.header, found.skip_lines, found.units) == (header, len(preamble), ())
    same = {"utf-8-sig": "utf-8", "cp1252": found.encoding}
    if encoding == "cp1252":
        assert found.encoding == ("cp1252" if header or "Werk Süd" in preamble else "utf-8")
    assert found.encoding == same.get(encoding, encoding)


def test_line_of_units_below_the_header_is_told() -> None:
    data = "t;T1;F\n;°C;m3/h\n" + "".join(f"{i};{20 + i % 3},5;{i},25\n" for i in range(9))
    found = infer_dialect(data.encode())
    assert (found.units, found.decimal, found.skip_lines) == (("", "°C", "m3/h"), ",", 0)


def test_quoted_decimal_commas_between_commas_are_told() -> None:
    data = "a,b\n" + "".join(f'"{i},5","{i},25"\n' for i in range(9))
    found = infer_dialect(data.encode())
    assert (found.delimiter, found.decimal) == (",", ",")


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=400) | st.text(max_size=300).map(str.encode))
def test_any_bytes_are_a_table_or_a_clear_error(
    data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with suppress(SourceError):
        found_in(tmp_path_factory.getbasetemp() / "any.csv", data)


# ------------------------------------------------------------------------------------------ time


def times_of(texts: list[str]) -> tuple[str | None, str | None, str]:
    cells = {"t": pa.array([text.encode() for text in texts])}
    found = find_times(cells, describe(cells, "."), ".")
    assert found is not None
    return found.setting.format, found.setting.epoch, found.note


@settings(max_examples=100, deadline=None)
@given(
    form=st.sampled_from([
        "%d.%m.%Y %H:%M", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%Y/%m/%d %H:%M",
        "%d-%b-%y %H:%M:%S",
        "%d-%b-%Y %H:%M", "%m/%d/%Y %I:%M:%S %p", "%Y%m%d%H%M%S", "%Y%m%d %H%M%S",
        "%d.%m.%y %H:%M:%S", "%Y-%m-%d %H.%M.%S", "%d/%m/%Y %H:%M:%S.%f",
    ]),
    start=st.datetimes(datetime(2001, 1, 1), datetime(2030, 1, 1)),
    step_s=st.integers(60, 90_000),
)  # fmt: skip
def test_format_reads_the_times_that_it_was_written_with(
    form: str, start: datetime, step_s: int
) -> None:
    start = start.replace(second=0, microsecond=0)
    moments = [start + timedelta(seconds=step_s * at) for at in range(60)]
    cells = {"t": pa.array([moment.strftime(form).encode() for moment in moments])}
    found = find_times(cells, describe(cells, "."), ".")
    assert found is not None
    if not found.note:
        wrote = [int((datetime.strptime(m.strftime(form), form) - datetime(1970, 1, 1))
                     .total_seconds()) for m in moments]  # fmt: skip
        assert (found.moments // 1_000_000).tolist() == wrote


def test_order_of_the_rows_decides_between_day_first_and_month_first() -> None:
    days = [datetime(2026, 1, 3) + timedelta(hours=12 * at) for at in range(16)]
    assert times_of([f"{day:%m/%d/%Y %H:%M}" for day in days])[0] == "%m/%d/%Y %H:%M"
    assert times_of([f"{day:%d/%m/%Y %H:%M}" for day in days])[0] == "%d/%m/%Y %H:%M"


def test_undecided_order_of_day_and_month_is_said() -> None:
    form, _, note = times_of([f"03/03/2026 {hour:02d}:00" for hour in range(24)])
    assert form == "%d/%m/%Y %H:%M"
    assert "%m/%d/%Y %H:%M" in note


@pytest.mark.parametrize(
    ("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)]
)
def test_unit_of_an_epoch_is_told_by_its_magnitude(unit: str, factor: int) -> None:
    start = int(START.timestamp())
    assert times_of([str((start + 60 * at) * factor) for at in range(50)])[1] == unit


def test_numbers_that_do_not_count_from_1970_are_no_times() -> None:
    cells = {"flow": pa.array([str(i * 1000).encode() for i in range(50)])}
    assert find_times(cells, describe(cells, "."), ".") is None


def wall_clock(zone: str, start: datetime, days: int, minutes: int) -> np.ndarray:
    moments = (start + timedelta(minutes=minutes) * at for at in range(days * 1440 // minutes))
    walls = [moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None) for moment in moments]
    return np.array([(wall - datetime(1970, 1, 1)) // timedelta(microseconds=1) for wall in walls])


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("minutes", [30, 60])
def test_zone_is_told_by_a_year_of_its_clocks(zone: str, minutes: int) -> None:
    wall = wall_clock(zone, datetime(2025, 1, 10, tzinfo=UTC), 365, minutes)
    changes = find_changes(wall, np.zeros(len(wall)), minutes * 60)
    assert len(changes.back) == len(changes.forward) == 1
    found = find_zones(changes, int(wall.min()), int(wall.max()), minutes * 60)
    assert zone in found
    for other in found:  # what cannot be told apart has its clocks changed at the same hours
        its = wall_clock(other, datetime(2025, 1, 10, tzinfo=UTC), 365, minutes)
        own = find_changes(its, np.zeros(len(its)), minutes * 60)
        for seen, expected in ((own.back, changes.back), (own.forward, changes.forward)):
            assert (
                abs(seen[0] - expected[0]) < minutes * 60e6
            )  # on a clock that is half an hour off


def test_rows_in_utc_show_no_zone() -> None:
    wall = wall_clock("UTC", datetime(2025, 1, 10, tzinfo=UTC), 365, 30)
    assert find_zones(find_changes(wall, np.zeros(len(wall)), 1800), wall[0], wall[-1], 1800) == ()


def test_gap_of_an_hour_in_another_week_is_no_change_of_clocks() -> None:
    wall = np.arange(0, 40 * 1440, 10) * 60_000_000 + int(START.timestamp()) * 1_000_000
    wall[1000:] += 3_600_000_000
    assert find_zones(find_changes(wall, np.zeros(len(wall)), 600), wall[0], wall[-1], 600) == ()


# ------------------------------------------------------------------------------------------ keys


def columns_of(**values: object) -> tuple[dict[str, pa.Array], dict[str, Column]]:
    cells = {
        name: pa.array([str(v).encode() for v in column])  # type: ignore[attr-defined]
        for name, column in values.items()
    }
    return cells, describe(cells, ".")


def test_asset_is_the_column_within_which_times_rise() -> None:
    n = 400
    cells, columns = columns_of(
        where=["abcd"[i % 4] for i in range(n)], grade=["xy"[i // 7 % 2] for i in range(n)]
    )
    moments = np.repeat(np.arange(n // 4), 4) * 1_000_000
    assert find_keys(cells, columns, np.zeros(n, int), moments, "").asset == "where"


def test_file_is_the_asset_where_times_rise_over_all_columns() -> None:
    n = 400
    cells, columns = columns_of(grade=["xy"[i // 7 % 2] for i in range(n)])
    assert find_keys(cells, columns, np.zeros(n, int), np.arange(n) * 10**6, "").asset is None


def test_counter_that_starts_anew_tells_the_asset() -> None:
    lengths = [30, 41, 25, 60]
    unit = [i for i, length in enumerate(lengths, 1) for _ in range(length)]
    cycle = [at for length in lengths for at in range(1, length + 1)]
    cells, columns = columns_of(a=unit, b=cycle, c=np.random.default_rng(0).normal(size=len(unit)))
    keys = find_keys(cells, columns, np.zeros(len(unit), int), None, "")
    assert (keys.asset, keys.counter, keys.step_s) == ("a", "b", 1.0)


def test_minutes_that_elapsed_are_steps_of_a_minute() -> None:
    cells, columns = columns_of(**{"elapsed_min": np.arange(0, 50, 0.5), "x": np.arange(100) % 7})
    keys = find_keys(cells, columns, np.zeros(100, int), None, "")
    assert (keys.counter, keys.step_s) == ("elapsed_min", 60.0)


def test_pace_of_irregular_rows_is_a_usual_period() -> None:
    steps = np.random.default_rng(0).exponential(8.0, size=500)
    pace = find_pace((np.cumsum(steps) * 1e6).astype(np.int64), np.zeros(500))
    assert not pace.is_steady
    assert pace.period_s == 5


# --------------------------------------------------------------------------------- roles, ranges


def test_roles_of_a_usual_table() -> None:
    rng, n = np.random.default_rng(0), 300
    _, columns = columns_of(
        flow=rng.normal(size=n),
        fault=(np.arange(n) > 280).astype(int),
        changepoint=(np.arange(n) == 281).astype(int),
        recipe=["AB"[i // 50 % 2] for i in range(n)],
        shift=[["early", "late", "night"][i // 20 % 3] for i in range(n)],
        serial=[f"M{i}" for i in range(n)],
        valve=np.arange(n) // 9 % 2,
        flow_quality=["Good" if i % 30 else "Bad" for i in range(n)],
    )
    roles = find_roles(columns, frozenset())
    assert roles.sensors == ("flow", "valve")
    assert (roles.label, roles.mode, roles.context) == ("fault", "recipe", ("shift",))
    assert roles.quality == {"flow_quality": ("Good",)}
    assert set(roles.left_out) == {"changepoint", "serial"}


def test_label_is_rare() -> None:
    _, columns = columns_of(fault=[1] * 60 + [0] * 40)
    assert find_roles(columns, frozenset()).label is None


@pytest.mark.parametrize(
    ("name", "unit"),
    [("Air temperature [K]", "K"), ("n (rpm)", "rpm"), ("oil_degC", "°C"), ("Temp °C", "°C"),
     ("flow_m3_h", "m3_h"), ("level %", "%"), ("tag7", ""), ("Machine failure", ""), ("bar", "")],
)  # fmt: skip
def test_unit_of_a_name(name: str, unit: str) -> None:
    assert unit_of(name) == unit


@example([0.0, 5e-324], "")
@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=30), st.sampled_from(["", "K", "°C", "%"])
)
def test_range_has_room_for_every_value_seen_and_more(values: list[float], unit: str) -> None:
    array = np.array(values)
    limits = physical_range(array, unit)
    if limits.low is not None and limits.high is not None:
        floor = {"K": 0.0, "°C": -273.15}.get(unit, -np.inf)
        assert limits.low < array.min() or limits.low == array.min() == floor
        assert limits.high > array.max()
        assert limits.low >= floor or array.min() < floor


def test_sentinel_does_not_widen_the_range() -> None:
    values = np.array([20.5, 21.0, 19.8, -9999.0])
    limits = physical_range(without_sentinels(values), "")
    assert limits.low is not None
    assert limits.low > -9999
    # 999 among values of its size is one of them
    assert 999.0 in without_sentinels(np.array([990.0, 999.0, 1004.0]))


# -------------------------------------------------------------------------------------- oddities


def test_total_and_sawtooth_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    rises = np.cumsum(rng.random(2000))
    one = np.zeros(2000)
    assert is_totaliser(rises, one)
    assert is_totaliser(rises % 400, one)  # few resets
    assert not is_totaliser(rises % 20, one)  # its whole range was seen many times
    assert count_resets(rises % 20, one) > 10
    assert not is_totaliser(np.cumsum(rng.normal(size=2000)), one)


@pytest.mark.parametrize(
    ("conversion", "change"),
    [("°C to °F", lambda x: 1.8 * x + 32), ("°F to °C", lambda x: (x - 32) / 1.8),
     ("°C to K", lambda x: x + 273.15)],
)  # fmt: skip
@pytest.mark.parametrize("seed", range(5))
def test_change_of_units_is_found_where_it_happens(
    conversion: str, change: object, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    values = 60 + 2 * np.sin(np.arange(900) / 40) + rng.normal(size=900)
    at = int(rng.integers(100, 800))
    values[at:] = change(values[at:])  # type: ignore[operator]
    values[::37] = np.nan
    found = find_unit_change(values, "temperature")
    assert found is not None
    assert found.conversion == conversion
    assert found.at in (at, at + 1)
    assert found.is_apart


def test_step_of_a_process_is_no_change_of_units() -> None:
    rng = np.random.default_rng(0)
    for size in (5.0, 20.0, 48.0, 200.0):
        values = 60 + rng.normal(size=900) + size * (np.arange(900) > 500)
        assert find_unit_change(values, "temperature") is None, size
    walk = np.cumsum(rng.normal(size=(50, 2000)), axis=1)
    assert not [1 for row in walk if find_unit_change(row, "temperature") is not None]


def test_copies_are_found_whatever_their_scale() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 500))
    columns = {"a": a, "b": b, "a_in_kelvin": a * 1.8 + 32, "near": a + 0.05 * b, "flat": a * 0}
    assert find_duplicates(columns) == {"a_in_kelvin": "a"}


# ---------------------------------------------------------------------------------------- sample


@pytest.mark.slow
def test_large_text_is_read_all_over_in_bounded_size(tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    line = "{},{:.6f},{:.6f}\n"
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        file.write("time,flow,pressure\n")
        n_rows = MOST_BYTES // 20
        for start in range(0, n_rows, 50_000):
            values = rng.normal(size=(50_000, 2))
            file.writelines(
                line.format(1_700_000_000 + start + at, *pair) for at, pair in enumerate(values)
            )
    assert path.stat().st_size > MOST_BYTES
    source = Source(path=str(path))
    sample = take_sample(list_files(source), source)
    assert not sample.is_whole
    assert 0 < sample.n_rows < n_rows
    first, last = (int(sample.cells["time"][at].as_py()) for at in (0, -1))
    assert first == 1_700_000_000
    assert last > 1_700_000_000 + 0.95 * n_rows
    assert sample.n_broken == 0
    found = find(sample)
    assert (found.pace.period_s, found.pace.n_gaps, found.time.epoch) == (1, 0, "s")


def test_files_of_other_columns_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("time,flow\n1,2\n2,3\n")
    (tmp_path / "b.csv").write_text("time,flow,level\n1,2,3\n2,3,4\n")
    source = Source(path=str(tmp_path))
    with pytest.raises(SourceError, match=r"b\.csv has other columns .* it also has 'level'"):
        take_sample(list_files(source), source)
