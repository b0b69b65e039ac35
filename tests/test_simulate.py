"""The simulator keeps its equations, its truth, and its word that any cut gives the same rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import naive
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import kstest
from sklearn.metrics import roc_auc_score

from vae_anomaly.config import read_plant
from vae_anomaly.data.contract import check_batch
from vae_anomaly.data.refusals import REASONS
from vae_anomaly.data.simulate import (
    CONTEXT,
    DIRT,
    FOREVER,
    KINDS,
    LABELS,
    NOISE,
    SCHEMA,
    SENSORS,
    Fault,
    Simulation,
    demo,
    expected,
    pieces,
    plant_yaml,
    random_faults,
    regime_change,
    simulate,
    truth,
    write_files,
)
from vae_anomaly.data.simulate.faults import SWAPPABLE
from vae_anomaly.data.simulate.physics import Drive, column, lagged, physics
from vae_anomaly.data.simulate.randomness import normals, uniforms
from vae_anomaly.data.sources import list_files, read_batches
from vae_anomaly.errors import InputError

SENSOR_NAMES = [sensor.name for sensor in SENSORS]
PUMP = "pump-01"
FROZEN_ROW = {
    "asset": "pump-03",
    "mode": "normal",
    "speed": 2826.0825,
    "bypass": 0.3267,
    "ambient": 11.6791,
    "pressure_in": 2.2728,
    "pressure_out": 10.5955,
    "flow": 135.9761,
    "power": 45.453,
    "current": 78.2845,
    "vibration": 1.8331,
    "bearing_temperature": 40.0507,
    "oil_temperature": 37.8655,
    "fault": 0,
}
BARE = Simulation(n_assets=1, n_rows=1000, missing=0.0, asset_spread=0.0)


def values_of(table: pa.Table, names: list[str] = SENSOR_NAMES) -> np.ndarray:
    return np.column_stack([table[name].to_numpy() for name in names])


def planted(
    kind: str, first: int, end: int, sensors: tuple[str, ...] = (), size: float = 0.0
) -> Fault:
    start = BARE.time(first)
    return Fault(kind=kind, asset=PUMP, start=start, end=BARE.time(end), sensors=sensors, size=size)


# ------------------------------------------------------------------------------------- randomness


def test_random_numbers_have_their_distributions() -> None:
    # Four tests at 0.1 % each; the streams are fixed.
    index = np.arange(-5000, 15_000)
    first, second = normals(0, 0, "a", index), normals(0, 1, "a", index)
    assert kstest(first, "norm").pvalue > 1e-3
    assert kstest(uniforms(3, 0, "b", index), "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(first, second)[0, 1]) < 3.3 / np.sqrt(len(index))
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 3.3 / np.sqrt(len(index))


def test_streams_differ_by_seed_asset_and_purpose() -> None:
    index = np.arange(10)
    streams = [(0, 0, "a"), (1, 0, "a"), (0, 1, "a"), (0, 0, "b"), (0, -1, "a")]
    numbers = np.concatenate([uniforms(*stream, index) for stream in streams])
    assert len(np.unique(numbers)) == 50


# ---------------------------------------------------------------------------------------- physics


@given(
    st.floats(700, 3600),
    st.floats(-20, 40),
    st.floats(0, 1),
    st.floats(0.5, 2),
    st.floats(0.9, 1.2),
)
@settings(max_examples=50)
def test_physics_is_the_equations(
    speed: float, ambient: float, bypass: float, resistance: float, density: float
) -> None:
    columns = (speed, ambient, bypass, resistance, 0.1, density)
    drive = Drive(*(np.full(3, value) for value in columns), flush=np.zeros(3))
    oracle = naive.pump(*columns)
    for rows_per_s in (0.0, 1 / 60):  # in steady state a lag changes nothing
        assert_allclose(physics(drive, rows_per_s), [oracle] * 3, rtol=1e-9)


@pytest.mark.parametrize("lag", [0.2, 5.0, 300.0])
def test_lag_is_the_recurrence(lag: float) -> None:
    values = np.random.default_rng(0).normal(size=700).cumsum()
    assert_allclose(lagged(values, lag), naive.lagged(values.tolist(), lag), atol=1e-9)


def test_noise_has_the_size_and_the_memory_that_is_stated() -> None:
    plant = replace(BARE, n_rows=30_000)
    residual = (values_of(simulate(plant)) - expected(plant)) / NOISE
    # Effective rows: 30,000 / (1 + 2 sum of autocorrelations, about 11).
    assert_allclose(residual.std(axis=0), 1, atol=0.06)
    assert_allclose(residual.mean(axis=0), 0, atol=0.1)
    remembered = [np.corrcoef(r[1:], r[:-1])[0, 1] for r in residual.T]
    assert_allclose(remembered, 0.5 * np.exp(-60 / 600), atol=0.04)


def test_offsets_tell_the_assets_apart_and_stay() -> None:
    plant = Simulation(n_assets=40, n_rows=200, independent=True, missing=0, asset_spread=2.0)
    residual = ((values_of(simulate(plant)) - expected(plant)) / NOISE).reshape(40, 200, -1)
    offsets = residual.mean(axis=1)
    assert_allclose(offsets.std(axis=0), 2.0, atol=0.8)
    assert_allclose(residual[:, 100:].mean(axis=1), offsets, atol=0.5)


def test_modes_are_rare_or_not_and_told_by_the_context() -> None:
    table = simulate(Simulation(n_assets=8, n_rows=4032, period_s=300))
    mode = table["mode"].to_numpy(zero_copy_only=False)
    share = {name: (mode == name).mean() for name in ("normal", "part_load", "purge", "boost")}
    assert sum(share.values()) == pytest.approx(1)
    assert 0.55 < share["normal"] < 0.75
    assert 0.2 < share["part_load"] < 0.35
    assert 0.025 < share["boost"] < 0.06
    assert 0.025 < share["purge"] < 0.06
    speed, bypass = table["speed"].to_numpy(), table["bypass"].to_numpy()
    assert (speed[mode == "boost"] > 3130).all()
    assert (bypass[mode == "purge"] > 3).all()
    assert (bypass[mode == "normal"] < 7).all()


def test_independent_rows_have_no_memory() -> None:
    plant = Simulation(n_assets=1, n_rows=5000, independent=True, missing=0)
    values = values_of(simulate(plant))
    remembered = [np.corrcoef(v[1:], v[:-1])[0, 1] for v in values.T]
    assert np.abs(remembered).max() < 4 / np.sqrt(5000)
    modes = pc.value_counts(simulate(plant)["mode"])
    assert len(modes) == 4


def test_missing_cells_come_singly_and_in_bursts_at_the_stated_share() -> None:
    plant = Simulation(n_assets=6, n_rows=20_000, missing=0.02)
    table = simulate(plant)
    missing = np.isnan(values_of(table))
    assert missing.mean() == pytest.approx(0.02, abs=0.003)
    again = missing[1:] & missing[:-1]
    assert 0.3 < again.sum() / missing.sum() < 0.7
    assert not np.isnan(values_of(table, [sensor.name for sensor in CONTEXT])).any()


@pytest.mark.parametrize("seed", range(3))
def test_readings_stay_inside_the_physical_range(seed: int) -> None:
    plant = demo(seed)
    broken = Fault(
        kind="broken_sensor",
        asset=PUMP,
        start=plant.time(0),
        end=FOREVER,
        sensors=("pressure_in",),
        size=100,
    )
    table = simulate(replace(plant, faults=(*plant.faults, broken)))
    for sensor in (*SENSORS, *CONTEXT):
        extremes = pc.min_max(table[sensor.name]).as_py()
        assert sensor.low <= extremes["min"] < extremes["max"] <= sensor.high


# ------------------------------------------------------------------------------------------- cuts

FAULTED = replace(
    Simulation(n_assets=2, n_rows=9000, seed=5),
    faults=(
        planted("stuck", 4090, 8300, ("flow",)),
        planted("wear", 3000, 5000, size=20),
        planted("broken_sensor", 8000, 8500, ("power",), 8),
        planted("outage", 4000, 4200),
        planted("flush", 8100, 8150),
        planted("regime_change", 6000, 9000, size=5),
    ),
)
WHOLE = simulate(FAULTED, -100, 9200)


@given(st.lists(st.integers(-100, 9100), min_size=1, max_size=3, unique=True))
@settings(max_examples=8)
def test_any_cut_gives_the_same_rows(cuts: list[int]) -> None:
    edges = sorted({-100, *cuts, 9100})
    parts = [simulate(FAULTED, a, b - a) for a, b in pairwise(edges)]
    order = [("asset", "ascending"), ("time", "ascending")]
    assert pa.concat_tables(parts).sort_by(order).equals(WHOLE)


def test_hours_and_assets_can_be_taken_alone() -> None:
    one = simulate(FAULTED, 5000, 60, assets=("pump-02",))
    start, end = FAULTED.time(5000), FAULTED.time(5060)
    inside = (pc.field("time") >= start) & (pc.field("time") < end)
    assert one.equals(WHOLE.filter(inside & (pc.field("asset") == "pump-02")))
    hours = list(pieces(replace(FAULTED, n_rows=130), 60))
    assert [hour.num_rows for hour in hours] == [120, 120, 20]
    assert expected(FAULTED, 4100, 200).shape == (simulate(FAULTED, 4100, 200).num_rows, 8)


def test_the_seed_determines_everything() -> None:
    plant = Simulation(n_assets=2, n_rows=50)
    assert simulate(plant).equals(simulate(plant))
    assert not simulate(replace(plant, seed=1)).equals(simulate(plant))
    first, second = (values_of(simulate(plant, assets=(asset,))) for asset in plant.assets)
    assert not np.array_equal(first, second)


def test_the_simulator_is_frozen() -> None:
    # Figures of other issues rest on these numbers; changing them changes all of those.
    table = simulate(demo(), 2700, 1, assets=("pump-03",))
    row = {name: table[name][0].as_py() for name in table.column_names}
    assert row.pop("time") == demo().time(2700)
    assert row == pytest.approx(FROZEN_ROW, abs=2e-4)  # a unit of the last decimal


# ----------------------------------------------------------------------------------------- faults


def changed_by(fault: Fault) -> tuple[np.ndarray, np.ndarray]:
    """Readings with and without a fault; both (n, d)."""
    with_fault = simulate(replace(BARE, faults=(fault,)))
    without = simulate(BARE)
    label = with_fault["fault"].to_numpy()
    inside = (label == fault.label) if fault.label else np.ones(len(label), bool)
    before, after = values_of(without), values_of(with_fault)
    if fault.label:
        assert_array_equal(np.flatnonzero(inside), np.arange(200, 300))
        assert_array_equal(after[~inside], before[~inside])
    return before, after


@pytest.mark.parametrize(
    ("kind", "sensors", "size", "course", "weights"),
    [
        ("drift", ("vibration",), 10, lambda p: p, {"vibration": 1}),
        ("drift", ("flow",), -4, lambda p: p, {"flow": 1}),
        ("spike", ("power",), 6, np.ones_like, {"power": 1}),
        (
            "leak",
            (),
            8,
            lambda p: np.minimum(1, 10 * p),
            {"flow": -1, "pressure_out": -0.5, "power": 0.5, "current": 0.5},
        ),
        (
            "wear",
            (),
            9,
            lambda p: p**1.5,
            {"vibration": 1, "bearing_temperature": 0.75, "power": 0.5, "current": 0.5},
        ),
    ],
)
def test_additive_faults_are_the_equation(kind, sensors, size, course, weights) -> None:
    fault = planted(kind, 200, 300, sensors, size)
    before, after = changed_by(fault)
    progress = np.arange(1, 101) / 100
    for name in SENSOR_NAMES:
        j = column(name)
        shift = weights.get(name, 0) * size * NOISE[j] * course(progress)
        assert_allclose(after[200:300, j] - before[200:300, j], shift, atol=1.01e-4)
    assert fault.planted == (sensors or tuple(weights))


def test_a_stuck_sensor_keeps_its_last_value() -> None:
    before, after = changed_by(planted("stuck", 200, 300, ("flow",)))
    assert (after[200:300, 2] == before[199, 2]).all()
    assert_array_equal(np.delete(after, 2, axis=1), np.delete(before, 2, axis=1))


def test_swapped_signals_are_exchanged() -> None:
    before, after = changed_by(planted("swapped", 200, 300))
    first, second = (column(name) for name in SWAPPABLE)
    assert_array_equal(after[200:300, [first, second]], before[200:300, [second, first]])


def test_a_broken_sensor_is_erratic_and_half_missing() -> None:
    before, after = changed_by(planted("broken_sensor", 200, 300, ("current",), 10))
    added = (after - before)[200:300, 4] / NOISE[4]
    assert 30 <= np.isnan(added).sum() <= 70
    assert 7 < np.nanstd(added) < 13


def test_a_regime_change_follows_the_physics_and_is_no_anomaly() -> None:
    plant = regime_change(replace(BARE, n_assets=2), BARE.time(500), size=12)
    assert [fault.asset for fault in plant.faults] == list(plant.assets)
    table = simulate(plant)
    assert not table["fault"].to_numpy().any()
    before, after = simulate(replace(plant, faults=())), table
    change = (values_of(after) - values_of(before)).reshape(2, 1000, -1) / NOISE
    assert_array_equal(change[:, :500], 0)
    rise = change[:, 510:].mean(axis=(0, 1))
    assert 4 < rise[column("pressure_out")] < 14
    assert rise[column("power")] > 1
    assert abs(rise[column("flow")]) < 1e-3
    residual = (values_of(after) - expected(plant)) / NOISE
    assert abs(residual.mean()) < 0.3


def test_a_flush_is_a_mode_of_its_own_and_an_outage_has_no_rows() -> None:
    plant = replace(BARE, faults=(planted("flush", 100, 200), planted("outage", 400, 450)))
    table = simulate(plant)
    assert table.num_rows == 950
    mode = table["mode"].to_numpy(zero_copy_only=False)
    assert_array_equal(np.flatnonzero(mode == "flush"), np.arange(100, 200))
    assert "flush" not in pc.unique(simulate(BARE)["mode"]).to_pylist()
    assert not table["fault"].to_numpy().any()
    assert expected(plant).shape == (950, 8)


def test_faults_are_refused_where_they_make_no_sense() -> None:
    for kind, sensors, match in (
        ("leek", (), "did you mean 'leak'"),
        ("stuck", (), "takes 1"),
        ("stuck", ("flow", "power"), "takes 1"),
        ("leak", ("flow",), "takes 0"),
        ("drift", ("flo",), "did you mean 'flow'"),
    ):
        with pytest.raises(InputError, match=match):
            planted(kind, 0, 10, sensors)
    with pytest.raises(InputError, match="not after"):
        planted("leak", 10, 10)
    with pytest.raises(InputError, match="zone"):
        replace(planted("leak", 0, 10), start=BARE.start.replace(tzinfo=None))
    with pytest.raises(InputError, match="pump-01"):
        replace(BARE, faults=(replace(planted("leak", 0, 10), asset="pump-1"),))
    for wrong in ({"n_assets": 0}, {"n_rows": 0}, {"period_s": 0.0}, {"missing": 0.9}):
        with pytest.raises(InputError):
            replace(BARE, **wrong)
    with pytest.raises(InputError, match="allowed: pump-01"):
        simulate(BARE, assets=("x",))


# --------------------------------------------------------------------------------------- schedule


@given(st.integers(0, 10_000), st.integers(1, 3))
@settings(max_examples=20)
def test_random_faults_keep_to_their_time_and_never_overlap(seed: int, per_kind: int) -> None:
    plant = Simulation(n_assets=3)
    start, end = plant.time(10_000), plant.time(20_000)
    faults = random_faults(plant, start, end, per_kind=per_kind, seed=seed)
    assert faults == random_faults(plant, start, end, per_kind=per_kind, seed=seed)
    count = Counter(fault.kind for fault in faults)
    assert count.pop("spike") == 8 * per_kind
    assert set(count.values()) == {per_kind}
    assert len(count) == 5
    for one, other in pairwise(faults):
        assert start < one.start < one.end <= end
        assert one.asset != other.asset or one.end < other.start


def test_random_faults_scale_and_refuse_too_little_time() -> None:
    plant = Simulation()
    week = (plant.time(0), plant.time(10_080))
    single, double = (random_faults(plant, *week, scale=scale) for scale in (1.0, 2.0))
    assert [f.size * 2 for f in single] == pytest.approx([f.size for f in double])
    with pytest.raises(InputError, match="rows are too few"):
        random_faults(plant, plant.time(0), plant.time(50))
    with pytest.raises(InputError, match="did you mean 'wear'"):
        random_faults(plant, *week, kinds=("ware",))


def test_truth_tells_every_episode_and_the_labels_agree() -> None:
    plant = demo(3)
    table, told = simulate(plant, 0, 4032 + 864), truth(plant).to_pylist()
    assert len(told) == len(plant.faults)
    label = np.zeros(table.num_rows, int)
    time, asset = table["time"].to_numpy(), table["asset"].to_numpy(zero_copy_only=False)
    for row in told:
        start, end = (np.datetime64(row[key].replace(tzinfo=None)) for key in ("start", "end"))
        label[(asset == row["asset"]) & (time >= start) & (time < end)] = row["label"]
        assert KINDS[row["kind"]].label == row["label"]
        assert set(row["sensors"]) <= set(SENSOR_NAMES)
        assert row["sensors"]
    assert_array_equal(label, table["fault"].to_numpy())


def test_the_demo_has_each_kind_in_both_parts_that_need_it() -> None:
    for seed in range(3):
        plant = demo(seed)
        table = simulate(plant)
        row = np.tile(np.arange(plant.n_rows), plant.n_assets) / plant.n_rows
        label = table["fault"].to_numpy()
        assert (label[row < 0.6] > 0).mean() < 0.02
        for low, high in ((0.6, 0.8), (0.8, 1.0)):
            part = label[(row >= low) & (row < high)]
            assert set(part) == {0, *range(1, 7)}
            assert 0.1 < (part > 0).mean() < 0.35
        assert simulate(plant, 4032, 864)["fault"].to_numpy().any()


def areas(seed: int) -> tuple[list[float], list[float]]:
    """AUROC of single-sensor limits and of the true physics: pooled, then of each kind of fault."""
    plant = demo(seed)
    table = simulate(plant)
    values, label = values_of(table), table["fault"].to_numpy()
    row = np.tile(np.arange(plant.n_rows), plant.n_assets) / plant.n_rows
    normal, late = (row < 0.5) & (label == 0), row >= 0.6
    spread = np.nanstd(values[normal], axis=0)
    limits = np.nanmax(np.abs(values - np.nanmean(values[normal], axis=0)) / spread, axis=1)
    oracle = np.nansum(((values - expected(plant)) / NOISE) ** 2, axis=1)

    def area(score: np.ndarray, kind: int) -> float:
        chosen = late & ((label == 0) | (label == kind) | (kind == 0))
        return float(roc_auc_score(label[chosen] > 0, score[chosen]))

    return [area(limits, kind) for kind in range(7)], [area(oracle, kind) for kind in range(7)]


def test_faults_hide_from_single_sensors_but_not_from_the_physics() -> None:
    limits, oracle = np.array([areas(seed) for seed in range(3)]).swapaxes(0, 1)
    assert limits[:, 0].max() < 0.75
    assert limits.mean(axis=0).max() < 0.8
    assert oracle[:, 0].min() > 0.92
    assert oracle.min() > 0.85
    assert list(LABELS) == list(range(1, 8))


# ------------------------------------------------------------------------------------------ files


def test_the_plant_file_is_valid_and_names_every_column(tmp_path: Path) -> None:
    file = tmp_path / "plant.yml"
    file.write_text(plant_yaml(replace(BARE, period_s=300), name="demo", source="rows/*.csv"))
    plant = read_plant(file)
    assert plant.contract.sensors == SENSORS
    assert plant.contract.context == CONTEXT
    assert plant.contract.sampling.period_s == 300
    assert set(plant.contract.columns()) == set(SCHEMA.names)
    assert plant.source.path == str(tmp_path / "rows/*.csv")


@pytest.mark.parametrize("dirty", [0, 3])
def test_files_hold_the_rows_and_the_dirt_that_is_stated(tmp_path: Path, dirty: int) -> None:
    simulation = demo(1)
    (tmp_path / "plant.yml").write_text(plant_yaml(simulation))
    written = write_files(simulation, tmp_path / "incoming", 100, 400, dirty=dirty)
    plant = read_plant(tmp_path / "plant.yml")
    found = {file.path: file for file in list_files(plant.source)}
    assert set(found) == {str(file) for file in (*written.files, *written.unreadable)}
    accepted, reasons = [], Counter[str]()
    for file in written.files:
        for batch in read_batches(found[str(file)], plant.source):
            checked = check_batch(batch, plant.contract, asset=file.stem)
            accepted.append(checked.accepted)
            reasons.update(checked.rejected["reason"].to_pylist())
    rows = pa.concat_tables(accepted)
    keys = [*zip(rows["asset"].to_pylist(), rows["time"].to_pylist(), strict=True)]
    first = np.sort(np.unique([keys.index(key) for key in keys]))
    good, again = rows.take(first), rows.take(np.setdiff1d(np.arange(len(keys)), first))
    truth_rows = simulate(simulation, 100, 400)
    for name in SCHEMA.names:
        assert good["label" if name == "fault" else name].equals(truth_rows[name]), name
    assert good.num_rows == written.n_accepted == 1600
    assert again.num_rows == written.n_duplicates + written.reasons.get("conflicting", 0)
    assert reasons == {k: n for k, n in written.reasons.items() if k != "conflicting"}
    assert written.n_read == rows.num_rows + sum(reasons.values())
    assert set(written.reasons.values()) == ({dirty} if dirty else set())
    assert len(written.unreadable) == (dirty > 0)


def test_dirt_knows_the_reasons_of_the_contract() -> None:
    assert set(DIRT) - {"duplicate", "conflicting"} <= set(REASONS)


def test_files_can_be_parquet_hours_or_nothing(tmp_path: Path) -> None:
    plant = replace(BARE, n_assets=2, faults=(planted("outage", 60, 120),))
    written = write_files(plant, tmp_path, 0, 180, rows_per_file=60, ending="parquet")
    assert len(written.files) == 5  # the outage leaves an hour of one asset without a file
    whole = pa.concat_tables([pq.read_table(file) for file in written.files])
    assert whole.equals(simulate(plant, 0, 180))
    with pytest.raises(InputError, match="Parquet"):
        write_files(plant, tmp_path, dirty=1, ending="parquet")


def test_times_between_seconds_survive_the_file(tmp_path: Path) -> None:
    plant = replace(BARE, n_rows=40, period_s=0.5)
    written = write_files(plant, tmp_path)
    lines = written.files[0].read_text().splitlines()
    assert lines[2].startswith("2026-01-05T00:00:00.500000Z,pump-01,")
    assert plant.time(2) - plant.time(1) == timedelta(seconds=0.5)
    assert plant.row(plant.time(7)) == 7


def test_another_load_moves_the_speed_and_what_follows_from_it_alone() -> None:
    plant = regime_change(BARE, BARE.time(500), size=8, kind="load_change")
    before, after = simulate(replace(plant, faults=())), simulate(plant)
    assert not after["fault"].to_numpy().any()
    ratio = after["speed"].to_numpy() / before["speed"].to_numpy()
    n = BARE.n_rows
    assert_array_equal(ratio.reshape(-1, n)[:, :500], 1)
    assert_allclose(ratio.reshape(-1, n)[:, 600:], 1.08, atol=0.005)
    assert_array_equal(after["ambient"].to_numpy(), before["ambient"].to_numpy())
