"""Plants whose readings are formed from samples go through every step, again and again."""

from __future__ import annotations

import sqlite3
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import naive
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from crash import Row, lake_content, run_all
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vae_anomaly.config import PlantConfig, read_plant
from vae_anomaly.data.lake import READINGS, SAMPLES, VERDICTS, Lake, rows
from vae_anomaly.steps.ingest import ingest
from vae_anomaly.steps.score import score

pytestmark = pytest.mark.slow

START = datetime(2026, 3, 1, tzinfo=UTC)
PERIOD_MS = 2000

PLANT = """
name: crash
source: {source}
contract:
  time: time
  asset: unit
  sampling: {{period_s: 2, max_gap_s: 20, resample: last}}
{contract}
window: 3
smoothing: 0.5
calibration: {{false_alarm_rate: 0.05}}
training: {{epochs: 2, min_steps: 60, batch_size: 64, checks: 6}}
"""

LONG = """\
  long: {tag: tag, value: value}
  quality: {column: code}
  label: alarm
  mode: state
  sensors:
    - {name: flow, low: -50}
    - {name: pressure, fill_limit_s: 16}
    - {name: power, resample: mean}
    - {name: level, resample: interpolate, fill_limit_s: 8}"""

#: Column → (how, limit in ms), as `LONG` has them.
RULES = {
    "flow": ("last", 20_000),
    "pressure": ("last", 16_000),
    "power": ("mean", 20_000),
    "level": ("interpolate", 8_000),
    "label": ("last", 20_000),
    "mode": ("last", 20_000),
}

WIDE = """\
  label: alarm
  mode: state
  sensors: [flow, pressure, {name: power, resample: mean}]"""

#: Unit, milliseconds since the start, tag, what stands in the cell, code.
Sample = tuple[str, int, str, str, str]


def historian(first_s: int, last_s: int, seed: int = 0) -> list[Sample]:
    """Samples of two units: tags of various rates, one with a deadband, some values bad."""
    rng = np.random.default_rng([seed, first_s])
    found: list[Sample] = []
    for unit in "ab":
        kept, kept_at = np.inf, -np.inf
        for second in range(first_s, last_s):
            load = np.sin(second / 40) + 0.05 * rng.normal()
            ms = second * 1000 + int(rng.integers(0, 900))
            code = "Bad" if second % 97 == 11 else "Good"
            text = "I/O Timeout" if second % 89 == 7 else f"{load:.4f}"
            found.append((unit, ms, "flow", text, code))
            if abs(load - kept) > 0.15 or second - kept_at >= 14:  # deadband
                found.append((unit, ms, "pressure", f"{-0.5 * load:.4f}", "192"))
                kept, kept_at = load, second
            if second % 3 == 0:
                found.append((unit, ms, "power", f"{0.3 * load + 1:.4f}", "Good"))
            if second % 5 == 0:
                found.append((unit, ms, "level", f"{0.1 * load:.4f}", "Good"))
            if second % 10 == 0:
                found.append((unit, ms, "alarm", str(int(second % 500 >= 470)), "Good"))
                found.append((unit, ms, "state", "HAND" if second // 200 % 2 else "AUTO", "Good"))
            if second % 61 == 0:
                found.append((unit, ms, "other", "open", "Good"))
    return sorted(found, key=lambda sample: sample[1])


def stamp(ms: int) -> str:
    return (START + timedelta(milliseconds=ms)).isoformat()


def value_of(tag: str, text: str, code: str) -> float | int | str | None:
    if code == "Bad" or text == "I/O Timeout":
        return None
    if tag == "state":
        return text
    return int(text) if tag == "alarm" else float(text)


def expected(samples: list[Sample]) -> dict[tuple[str, int], dict[str, tuple[object, bool]]]:
    """(unit, ms) → column → (value, whether it is filled), one cell at a time."""
    columns = {"alarm": "label", "state": "mode"}
    own = [
        (unit, ms, columns.get(tag, tag), value_of(tag, text, code))
        for unit, ms, tag, text, code in samples
        if tag != "other"
    ]
    sensors = ["flow", "pressure", "power", "level"]
    return naive.Shaping(own, RULES, sensors).readings(PERIOD_MS, 0)


def table_of(plant: PlantConfig, name: str) -> pa.Table:
    return pa.Table.from_batches(list(rows(Lake(plant.lake, plant.contract).open(name))))


def readings_of(plant: PlantConfig) -> dict[tuple[str, int], Row]:
    """Readings by (unit, ms); each once."""
    table = Lake(plant.lake, plant.contract).open(READINGS)
    found = [row for batch in rows(table) for row in batch.to_pylist()]
    readings = {(r["asset"], round((r["time"] - START).total_seconds() * 1000)): r for r in found}
    assert len(readings) == len(found)
    return readings


def assert_formed(plant: PlantConfig, samples: list[Sample]) -> None:
    """The readings are what the loop says of the samples, up to rounding."""
    found, wanted = readings_of(plant), expected(samples)
    assert found.keys() == wanted.keys()
    for key, cells in wanted.items():
        for column, (value, _) in cells.items():
            close = pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
            assert found[key][column] == close, (key, column)
        sensors = ("flow", "pressure", "power", "level")
        assert found[key]["filled"] == sum(cells[name][1] for name in sensors)


def assert_judged_once(plant: PlantConfig) -> Counter[str]:
    """Every reading has one verdict; how many have which status."""
    verdicts = table_of(plant, VERDICTS)
    readings = table_of(plant, READINGS).select(["asset", "time"])
    keys = Counter(zip(verdicts["asset"].to_pylist(), verdicts["time"].to_pylist(), strict=True))
    assert keys == Counter(zip(*readings.to_pydict().values(), strict=True))
    return Counter(verdicts["status"].to_pylist())


def write_long(path: Path, samples: list[Sample]) -> None:
    lines = [f"{stamp(ms)},{unit},{tag},{text},{code}" for unit, ms, tag, text, code in samples]
    path.write_text("\n".join(["time,unit,tag,value,code", *lines]) + "\n")


def plant_in(folder: Path, contract: str) -> PlantConfig:
    (folder / "incoming").mkdir()
    path = folder / "plant.yml"
    path.write_text(PLANT.format(source="{path: incoming, settle_s: 0}", contract=contract))
    return read_plant(path)


def test_historian_s_files_end_in_one_verdict_a_reading(tmp_path: Path) -> None:
    samples = historian(0, 1600)
    plant = plant_in(tmp_path, LONG)
    write_long(tmp_path / "incoming/0.csv", samples)
    run_all(plant)
    assert_formed(plant, samples)
    statuses = assert_judged_once(plant)
    assert statuses["normal"] > 0.5 * statuses.total()
    assert set(table_of(plant, READINGS)["label"].to_pylist()) == {0, 1}
    before = lake_content(plant.lake)["verdicts"]

    later = historian(1600, 2000)
    write_long(tmp_path / "incoming/1.csv", later)
    report = ingest(plant)
    assert report.shaped is not None
    n_new = report.shaped.n_readings
    assert 390 <= n_new <= 410
    assert score(plant).n_rows == n_new
    assert_formed(plant, samples + later)
    assert_judged_once(plant)

    assert (ingest(plant).counts.n_read, score(plant).n_rows) == (0, 0)
    after = lake_content(plant.lake)["verdicts"]
    assert [row for row in after if row in before] == before
    assert len(after) == len(before) + n_new


def test_wide_files_of_irregular_times_end_in_one_verdict_a_reading(tmp_path: Path) -> None:
    plant = plant_in(tmp_path, WIDE)
    rng = np.random.default_rng(3)
    clock = {"a": 0, "b": 0}
    n_readings = 0
    for number, n_rows in enumerate((2000, 500)):
        lines = ["time,unit,flow,pressure,power,alarm,state"]
        for at in range(n_rows):
            unit = "ab"[at % 2]
            clock[unit] += int(rng.integers(300, 3200))
            load = np.sin(clock[unit] / 40_000) + 0.05 * rng.normal()
            cells = [f"{load:.4f}", f"{-0.5 * load:.4f}", f"{0.3 * load:.4f}"]
            lines.append(",".join([stamp(clock[unit]), unit, *cells, "0", "AUTO"]))
        (tmp_path / f"incoming/{number}.csv").write_text("\n".join(lines) + "\n")
        if number == 0:
            run_all(plant)
        else:
            assert score(plant).n_rows == 0
            ingest(plant)
            assert score(plant).n_rows == len(readings_of(plant)) - n_readings > 0
        assert_judged_once(plant)
        readings = readings_of(plant)
        n_readings = len(readings)
        assert all(ms % PERIOD_MS == 0 for _, ms in readings)
        assert abs(n_readings - sum(clock.values()) / PERIOD_MS) < 0.01 * n_readings
    assert (ingest(plant).counts.n_read, score(plant).n_rows) == (0, 0)


MERGED = """\
  label: alarm
  mode: state
  sensors:
    - {name: flow, quality: flow_status, fill_limit_s: 8}
    - {name: power, resample: mean}
    - {name: level, resample: interpolate, fill_limit_s: 6}"""

MERGED_RULES = {
    "flow": ("last", 8),
    "power": ("mean", 20),
    "level": ("interpolate", 6),
    "label": ("last", 20),
    "mode": ("last", 20),
}

#: What may stand in a cell, and the sample that it is: a value, None where bad; none at all.
NUMBERS = {"": (), " ": (), "NaN": (), "1.5": (1.5,), "-2.5": (-2.5,), "Bad": (None,)}
LABELS = {"": (), "0": (0,), "1": (1,), "-1": (None,)}
MODES = {"": (), "AUTO": ("AUTO",), "HAND": ("HAND",)}

#: Unit, second, and the texts of flow, its status, power, level, alarm and state.
Cells = tuple[str, int, str, str, str, str, str, str]


def merged_samples(row: Cells) -> list[tuple[str, int, str, object]]:
    unit, second, flow, status, power, level, alarm, state = row
    flows = NUMBERS[flow]
    if status == "Bad" or (status == "" and flows):
        flows = (None,)
    own = {"flow": flows, "power": NUMBERS[power], "level": NUMBERS[level]}
    own |= {"label": LABELS[alarm], "mode": MODES[state], "row": (None,)}
    return [(unit, second, name, value) for name, values in own.items() for value in values]


def merged_rows() -> st.SearchStrategy[list[Cells]]:
    """Rows of which most cells are empty, as in a table that was merged of several rates."""
    numbers = st.one_of(st.just(""), st.sampled_from(sorted(NUMBERS)))
    keys = st.tuples(st.sampled_from("ab"), st.integers(0, 50))
    cells = st.tuples(
        numbers, st.sampled_from(["", "Good", "Bad"]), numbers, numbers,
        st.sampled_from(sorted(LABELS)), st.sampled_from(sorted(MODES)),
    )  # fmt: skip
    rows_ = st.dictionaries(keys, cells, min_size=2, max_size=30)
    return rows_.map(lambda found: [(*key, *found[key]) for key in sorted(found, key=_second)])


def _second(key: tuple[str, int]) -> tuple[int, str]:
    return key[1], key[0]


def write_merged(path: Path, rows_: list[Cells]) -> None:
    header = "time,unit,flow,flow_status,power,level,alarm,state"
    lines = [",".join([stamp(second * 1000), unit, *cells]) for unit, second, *cells in rows_]
    path.write_text("\n".join([header, *lines]) + "\n")


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows_=merged_rows(), edge=st.integers(1, 50))
def test_empty_cells_of_a_wide_table_are_no_samples_and_bad_ones_are(
    rows_: list[Cells], edge: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("merged")
    plant = plant_in(folder, MERGED)
    early, later = [r for r in rows_ if r[1] < edge], [r for r in rows_ if r[1] >= edge]
    write_merged(folder / "incoming/0.csv", early)
    ingest(plant)
    write_merged(folder / "incoming/1.csv", early + later)
    counts = ingest(plant).counts
    if later:  # else it is the same file once more
        assert (counts.n_duplicate, counts.n_accepted) == (len(early), len(later))
    samples = [sample for row in rows_ for sample in merged_samples(row)]
    shaping = naive.Shaping(samples, MERGED_RULES, ["flow", "power", "level"])
    wanted = {(u, 1000 * t): cells for (u, t), cells in shaping.readings(2, 0).items()}
    found = readings_of(plant)
    assert found.keys() == wanted.keys()
    for key, cells in wanted.items():
        for column, (value, _) in cells.items():
            close = pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
            assert found[key][column] == close, (key, column)
        n_filled = sum(cells[name][1] for name in ("flow", "power", "level"))
        assert found[key]["filled"] == n_filled


def test_pulls_of_a_long_table_end_in_one_verdict_a_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHAPED_TEST_URI", f"sqlite:///{tmp_path / 'plant.db'}")
    database = "{uri: '${SHAPED_TEST_URI}', table: samples, watermark: n, overlap: 100}"
    path = tmp_path / "plant.yml"
    path.write_text(PLANT.format(source=f"{{database: {database}}}", contract=LONG))
    plant = read_plant(path)
    parts = [historian(0, 1600), historian(1600, 2000)]
    with sqlite3.connect(tmp_path / "plant.db") as connection:
        columns = "n integer, time text, unit text, tag text, value text, code text"
        connection.execute(f"CREATE TABLE samples ({columns})")

    def insert(samples: list[Sample], first: int) -> None:
        values = [
            (first + at, stamp(ms), unit, tag, text, code)
            for at, (unit, ms, tag, text, code) in enumerate(samples)
        ]
        with sqlite3.connect(tmp_path / "plant.db") as connection:
            connection.executemany("INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?)", values)

    insert(parts[0], 0)
    run_all(plant)
    assert_formed(plant, parts[0])
    assert_judged_once(plant)

    insert(parts[1], len(parts[0]))
    counts = ingest(plant).counts
    assert counts.complete
    assert counts.n_accepted == len(parts[1])
    assert counts.n_duplicate == 101  # the overlap, and the row at its border
    score(plant)
    assert_formed(plant, parts[0] + parts[1])
    assert_judged_once(plant)

    again = ingest(plant)
    assert again.shaped is not None
    assert (again.counts.n_accepted, again.shaped.n_readings, again.shaped.n_late) == (0, 0, 0)
    assert score(plant).n_rows == 0
    n_samples = table_of(plant, SAMPLES).num_rows
    assert n_samples == sum(map(len, parts))
    assert pc.count_distinct(table_of(plant, READINGS)["ingest"]).as_py() >= 2
