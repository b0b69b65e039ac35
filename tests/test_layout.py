"""Readings are what a loop over samples says, however the samples came; nothing crosses a gap."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import crash
import naive
import pyarrow as pa
import pytest
from crash import Kill, finish, kill_at, shaped_content, start, write_historian, write_late
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vae_anomaly.config import Contract, LongLayout, Sampling, Sensor, read_plant
from vae_anomaly.data.contract import Checked
from vae_anomaly.data.lake import READINGS, SAMPLES, Lake, rows
from vae_anomaly.data.landing import land
from vae_anomaly.data.layout import Shaped, shape
from vae_anomaly.data.refusals import REJECTED_SCHEMA
from vae_anomaly.data.schemas import samples_schema
from vae_anomaly.errors import LakeError
from vae_anomaly.steps.file_records import IngestReport
from vae_anomaly.steps.ingest import ingest

Sample = tuple[str, int, str, float | str | None]
Cells = dict[str, float | str | None]
How = Literal["last", "mean", "interpolate"]

SECOND = 1_000_000


def contract_of(
    rules: dict[str, tuple[How, int]], *, period: int, wait: int = 0, is_long: bool = True
) -> Contract:
    sensors = tuple(
        Sensor(name=name, resample=how if period else None, fill_limit_s=limit)
        for name, (how, limit) in rules.items()
        if name != "mode"
    )
    sampling = Sampling(wait_s=wait)
    if period:
        sampling = Sampling(period_s=period, resample="last", fill_limit_s=9, wait_s=wait)
    return Contract(
        time="time",
        asset="asset",
        long=LongLayout() if is_long else None,
        sampling=sampling,
        sensors=sensors,
        mode="mode",
    )


def land_samples(lake: Lake, samples: Sequence[Sample], content: str) -> None:
    """One chunk of a long table."""
    names = [n for n in samples_schema(lake.contract).names if n not in ("content_id", "ingest")]
    is_text = [isinstance(value, str) for *_, value in samples]
    values = [value for *_, value in samples]
    table = pa.table(
        {
            "asset": pa.array([s[0] for s in samples], pa.string()),
            "time": pa.array([s[1] * SECOND for s in samples], pa.timestamp("us", "UTC")),
            "sensor": pa.array([s[2] for s in samples], pa.string()),
            "value": pa.array(
                [None if t else v for v, t in zip(values, is_text, strict=True)], pa.float64()
            ),
            "text": pa.array(
                [v if t else None for v, t in zip(values, is_text, strict=True)], pa.string()
            ),
            "row": pa.array(range(1, len(samples) + 1), pa.int64()),
        }
    )
    checked = Checked(table.select(names), REJECTED_SCHEMA.empty_table())
    land(lake, checked, content_id=content, path=content, last_row=len(samples))


def formed(lake: Lake, columns: Sequence[str]) -> dict[tuple[str, int], Cells]:
    """(asset, second) → column → value, and how many are filled; each key once."""
    found: dict[tuple[str, int], Cells] = {}
    for batch in rows(lake.open(READINGS)):
        for row in batch.to_pylist():
            key = (row["asset"], round(row["time"].timestamp()))
            assert key not in found
            found[key] = {name: row[name] for name in (*columns, "filled")}
    return found


def expected(
    samples: Sequence[Sample], rules: dict[str, tuple[How, int]], period: int, wait: int
) -> dict[tuple[str, int], Cells]:
    sensors = [name for name in rules if name != "mode"]
    twin = naive.Shaping(list(samples), rules, sensors).readings(period, wait)
    result: dict[tuple[str, int], Cells] = {}
    for key, cells in twin.items():
        n_filled = sum(is_filled for name, (_, is_filled) in cells.items() if name in sensors)
        result[key] = {name: value for name, (value, _) in cells.items()}
        result[key]["filled"] = n_filled if period else None
    return result


def assert_same(found: dict[tuple[str, int], Cells], wanted: dict[tuple[str, int], Cells]) -> None:
    assert found.keys() == wanted.keys()
    for key, cells in wanted.items():
        for name, value in cells.items():
            close = pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
            assert found[key][name] == close, (key, name)


VALUES = st.one_of(st.none(), st.sampled_from([1.0, -2.5, 7.25, 1e6]))


@st.composite
def plants(draw: st.DrawFn) -> tuple[list[Sample], dict[str, tuple[How, int]], int, int]:
    """Samples in the order of their arrival, rules, period and wait."""
    period, wait = draw(st.sampled_from([0, 1, 3, 7])), draw(st.sampled_from([0, 0, 4]))
    rules: dict[str, tuple[How, int]] = {
        name: (
            draw(st.sampled_from(["last", "mean", "interpolate"])) if period else "last",
            draw(st.integers(0, 9)) if period else 0,
        )
        for name in ("flow", "power")
    }
    rules["mode"] = ("last", 9 if period else 0)
    keys = st.tuples(st.sampled_from("ab"), st.integers(-20, 60), st.sampled_from(sorted(rules)))
    samples: list[Sample] = []
    for asset, second, name in draw(st.lists(keys, unique=True, min_size=1, max_size=60)):
        names = st.sampled_from([None, "AUTO", "HAND"])
        samples.append((asset, second, name, draw(names if name == "mode" else VALUES)))
    delays = random.Random(draw(st.integers(0, 99)))
    samples.sort(key=lambda s: s[1] + (delays.random() * wait * 0.999))
    return samples, rules, period, wait


@pytest.mark.slow
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(plant=plants(), cuts=st.lists(st.integers(0, 60), max_size=3), small=st.booleans())
def test_readings_are_what_a_loop_says_however_the_samples_came(
    plant: tuple[list[Sample], dict[str, tuple[How, int]], int, int],
    cuts: list[int],
    small: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    samples, rules, period, wait = plant
    lake = Lake(tmp_path_factory.mktemp("lake"), contract_of(rules, period=period, wait=wait))
    edges = sorted({min(cut, len(samples)) for cut in cuts} | {0, len(samples)})
    if not wait:  # samples of one time come together
        edges = [e for e in edges if not 0 < e < len(samples) or _is_between(samples, e)]
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr("vae_anomaly.data.horizons.SPAN_CELLS", 12)
            patch.setattr("vae_anomaly.data.horizons.BIN_US", 2 * SECOND)
            patch.setattr("vae_anomaly.data.horizons.MAX_BINS", 9)
            patch.setattr("vae_anomaly.data.layout.CHUNK_ROWS", 3)
        for number, (first, last) in enumerate(pairwise(edges)):
            land_samples(lake, samples[first:last], f"c{number}")
            assert shape(lake).n_late == 0
    assert_same(formed(lake, list(rules)), expected(samples, rules, period, wait))


def _is_between(samples: list[Sample], edge: int) -> bool:
    return samples[edge - 1][1] < samples[edge][1]


# ---------------------------------------------------------------------------------- one at a time


def shaped_once(
    folder: Path, samples: Sequence[Sample], rule: tuple[How, int], period: int
) -> tuple[Lake, Shaped]:
    lake = Lake(folder, contract_of({"flow": rule}, period=period))
    land_samples(lake, samples, "c")
    return lake, shape(lake)


@pytest.mark.parametrize("how", ["last", "mean", "interpolate"])
def test_nothing_is_invented_across_a_gap(how: How, tmp_path: Path) -> None:
    samples: list[Sample] = [("a", t, "flow", 1.0) for t in (*range(10), *range(100, 110))]
    lake, _ = shaped_once(tmp_path, samples, (how, 5), 1)
    times = [t for _, t in formed(lake, ["flow"])]
    assert [t for t in times if 9 < t < 100] == ([10, 11, 12, 13, 14] if how == "last" else [])


def test_bad_sample_ends_what_is_carried(tmp_path: Path) -> None:
    samples: list[Sample] = [("a", 0, "flow", 1.0), ("a", 3, "flow", None), ("a", 7, "flow", 2.0)]
    lake, shaped = shaped_once(tmp_path, samples, ("last", 5), 1)
    found = {t: cells["flow"] for (_, t), cells in formed(lake, ["flow"]).items()}
    assert found == {0: 1.0, 1: 1.0, 2: 1.0, 3: None, 7: 2.0}
    assert shaped.filled["flow"] == 2


def test_late_samples_change_nothing_and_are_counted_once(tmp_path: Path) -> None:
    lake, _ = shaped_once(tmp_path, [("a", t, "flow", 1.0) for t in (0, 2, 4)], ("last", 9), 2)
    before = formed(lake, ["flow"])
    land_samples(lake, [("a", 1, "flow", 5.0), ("a", 3, "flow", 5.0), ("a", 6, "flow", 6.0)], "d")
    assert shape(lake).n_late == 2
    assert shape(lake).n_late == 0
    after = formed(lake, ["flow"])
    assert {key: after[key] for key in before} == before
    assert after["a", 6] == {"flow": 6.0, "filled": 0}
    assert lake.open(READINGS).transaction_version("late") == 2
    assert sum(batch.num_rows for batch in rows(lake.open(SAMPLES))) == 6


def test_asset_of_which_nothing_is_ready_is_not_forgotten(tmp_path: Path) -> None:
    lake = Lake(tmp_path, contract_of({"flow": ("last", 9)}, period=1, wait=4))
    for number, second in enumerate((10, 9, 13)):
        land_samples(lake, [("a", second, "flow", float(second))], f"c{number}")
        assert shape(lake).n_late == 0
    assert formed(lake, ["flow"]) == {("a", 9): {"flow": 9.0, "filled": 0}}


def test_interpolated_reading_waits_for_the_next_sample_but_not_for_ever(tmp_path: Path) -> None:
    rules: dict[str, tuple[How, int]] = {"flow": ("interpolate", 6), "power": ("last", 6)}
    lake = Lake(tmp_path, contract_of(rules, period=1))
    land_samples(lake, [("a", 0, "flow", 0.0), ("a", 3, "power", 1.0)], "c")
    shape(lake)
    assert [t for _, t in formed(lake, ["flow"])] == [0]
    land_samples(lake, [("a", 4, "flow", 8.0), ("a", 12, "power", 1.0)], "d")
    shape(lake)
    found = {t: cells["flow"] for (_, t), cells in formed(lake, ["flow"]).items()}
    assert [found[t] for t in range(6)] == [0.0, 2.0, 4.0, 6.0, 8.0, None]
    assert max(found) == 12


# ------------------------------------------------------------------------------------- whole files


PLANT = """
name: p
source: {{path: incoming, settle_s: 0}}
contract:
  time: time
  asset: asset
  {layout}
  sampling: {{period_s: 2, max_gap_s: 10, resample: {resample}}}
  sensors: [{{name: flow, low: 0}}, power]
"""


def ingested(
    folder: Path, files: dict[str, list[str]], layout: str = "long: {}", resample: str = "last"
) -> tuple[IngestReport, Lake]:
    (folder / "incoming").mkdir(parents=True, exist_ok=True)
    for name, lines in files.items():
        (folder / "incoming" / name).write_text("\n".join(lines) + "\n")
    (folder / "plant.yml").write_text(PLANT.format(layout=layout, resample=resample))
    plant = read_plant(folder / "plant.yml")
    return ingest(plant), Lake(plant.lake, plant.contract)


def long_lines() -> list[tuple[int, str]]:
    """(second, line) of two tags, one of which changes rarely."""
    stamp = "2026-01-01T00:{:02d}:{:02d}Z,a,{},{}"
    lines = [(t, stamp.format(t // 60, t % 60, "flow", t / 4)) for t in range(200)]
    return lines + [(t, stamp.format(t // 60, t % 60, "power", t)) for t in range(0, 200, 7)]


def test_order_of_the_rows_and_a_file_for_each_tag_change_nothing(tmp_path: Path) -> None:
    header, by_tag = "time,asset,tag,value", [line for _, line in long_lines()]
    by_time = [line for _, line in sorted(long_lines())]
    layouts = {
        "time": {"a.csv": [header, *by_time]},
        "tag": {"a.csv": [header, *by_tag]},
        "files": {
            f"{tag}.csv": [header, *(line for line in by_tag if tag in line)]
            for tag in ("flow", "power")
        },
    }
    found = []
    for name, files in layouts.items():
        report, lake = ingested(tmp_path / name, files)
        assert report.counts.n_accepted == len(by_tag)
        assert report.shaped is not None
        assert report.shaped.n_readings == 100
        found.append(formed(lake, ["flow", "power"]))
    assert found[0] == found[1] == found[2]


def test_every_tag_is_read_as_the_contract_says_of_it(tmp_path: Path) -> None:
    stamp = "2026-01-01T00:00:0{},a,{},{},{}"
    lines = [
        "time,asset,tag,value,code",
        stamp.format(0, "flow", 1, "Good"),
        stamp.format(2, "flow", -1, "Good"),
        stamp.format(4, "flow", 3, "Bad"),
        stamp.format(6, "flow", "I/O Timeout", "Good"),
        stamp.format(6, "power", -1, "192"),
        stamp.format(6, "", 1, "Good"),
        stamp.format(6, "valve", "open", "Good"),
        stamp.format(8, "power", 2, "Good"),
    ]
    report, lake = ingested(tmp_path, {"a.csv": lines}, "long: {}\n  quality: {column: code}")
    assert report.counts.complete
    assert report.reasons == {"below_range": 1, "no_tag": 1}
    samples = [row for batch in rows(lake.open(SAMPLES)) for row in batch.to_pylist()]
    assert [(r["sensor"], r["value"], r["text"]) for r in samples] == [
        ("flow", 1.0, None),
        ("flow", None, None),
        ("flow", None, None),
        ("power", -1.0, None),
        ("valve", None, "open"),
        ("power", 2.0, None),
    ]
    assert report.cells.total() == 7
    assert sum(n for cell, n in report.cells.items() if cell.state == "unused") == 1


def test_wide_rows_at_times_of_their_own_come_on_the_period(tmp_path: Path) -> None:
    times = [0.0, 1.4, 1.9, 4.1, 7.7, 8.0]
    lines = [f"2026-01-01T00:00:{t:04.1f}Z,a,{t},{2 * t}" for t in times]
    _, lake = ingested(
        tmp_path, {"a.csv": ["time,asset,flow,power", *lines]}, "label: null", "last"
    )
    found = [cells["flow"] for cells in formed(lake, ["flow"]).values()]
    assert found == [0.0, 1.9, 1.9, 4.1, 8.0]
    assert [cells["filled"] for cells in formed(lake, ["flow"]).values()] == [0, 0, 2, 0, 0]


def test_lake_is_not_turned_from_rows_to_formed_readings_or_back(tmp_path: Path) -> None:
    lines = ["time,asset,flow,power", "2026-01-01T00:00:00Z,a,1,2"]
    ingested(tmp_path / "rows", {"a.csv": lines}, "label: null", "none")
    with pytest.raises(LakeError, match="rows as the files have them"):
        ingested(tmp_path / "rows", {}, "label: null", "last")
    ingested(tmp_path / "formed", {"a.csv": lines}, "label: null", "last")
    with pytest.raises(LakeError, match="were formed from samples"):
        ingested(tmp_path / "formed", {}, "label: null", "none")
    with pytest.raises(LakeError, match="wide layout"):
        ingested(tmp_path / "formed", {}, "long: {}", "last")


def test_column_whose_rule_contradicts_the_plant_s_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="either all columns are resampled, or none"):
        Contract(time="time", sensors=(Sensor(name="flow", resample="mean"),))
    with pytest.raises(ValueError, match="across a gap"):
        Contract(
            time="time",
            sampling=Sampling(period_s=1, max_gap_s=5, resample="last"),
            sensors=(Sensor(name="flow", fill_limit_s=6),),
        )


# ------------------------------------------------------------------------------ killed and doubled


@pytest.fixture(scope="module")
def historian(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[crash.Row]]:
    """What undisturbed ingests leave, each in one span and one commit."""
    folder = tmp_path_factory.mktemp("calm")
    report = ingest(read_plant(write_historian(folder)))
    assert min(report.counts.n_accepted, report.counts.n_quarantined) > 0
    write_late(folder)
    again = ingest(read_plant(folder / "plant.yml"))
    assert again.shaped is not None
    assert again.shaped.n_late > 200
    content = shaped_content(folder)
    assert content["late"] == [{"n": again.shaped.n_late}]
    return content


BOTH = (False, True)
KILLS = [Kill(point, after, 1) for point in crash.SHAPING_POINTS for after in BOTH]
KILLS += [Kill("vae_anomaly.data.layout.commit", after, n) for n in (3, 6) for after in BOTH]


@pytest.mark.slow
@pytest.mark.parametrize("kill", KILLS, ids=str)
def test_shaping_killed_at_a_named_step(
    kill: Kill, historian: dict[str, list[crash.Row]], tmp_path: Path
) -> None:
    plant = write_historian(tmp_path)
    assert kill_at(plant, "ingest", kill)
    write_late(tmp_path)
    assert kill_at(plant, "ingest", kill)
    assert shaped_content(tmp_path) == historian


@pytest.mark.slow
def test_ingests_at_once_form_every_reading_once(
    historian: dict[str, list[crash.Row]], tmp_path: Path
) -> None:
    plant = write_historian(tmp_path)
    for come in (lambda: None, lambda: write_late(tmp_path)):
        come()
        for process in [start(plant, "ingest") for _ in range(3)]:
            assert finish(process)
    found = shaped_content(tmp_path)
    for content in (*found.values(), *historian.values()):
        for row in content:
            row.pop("ingest", None)
    assert found["readings"] == historian["readings"]
    assert found["samples"] == historian["samples"]
