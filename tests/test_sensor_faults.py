"""Sensors at fault themselves: stuck, missing, out of range."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import naive
import numpy as np
import pyarrow as pa
import pytest
from sealed import CONTRACT, rows, seal

from vae_anomaly import ModelPackage
from vae_anomaly.config import Sensor
from vae_anomaly.data.sensor_faults import SensorLimits, faulty_cells, sensor_limits
from vae_anomaly.data.windows import Matrix

FLOW = Sensor(name="flow")


def called(
    cells: list[float],
    limits: SensorLimits,
    *,
    run: np.ndarray | None = None,
    sensor: Sensor = FLOW,
) -> list[str | None]:
    """What is said of one sensor, row by row."""
    run = np.arange(len(cells)) if run is None else run
    found: list[str | None] = [None] * len(cells)
    for of_sensor in faulty_cells(pa.table({"flow": cells}), run, [sensor], limits):
        for row in of_sensor.rows.tolist():
            found[row] = of_sensor.fault
    return found


def matrix(values: np.ndarray, label: np.ndarray | None = None) -> Matrix:
    n = len(values)
    label = np.zeros(n, np.int64) if label is None else label
    return Matrix(values.reshape(n, -1), np.arange(n), label)


@pytest.mark.parametrize("seed", range(30))
def test_faults_are_those_of_counting_row_by_row(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cells = rng.choice([1.0, 2.0, np.nan], size=80, p=[0.5, 0.2, 0.3])
    starts = rng.random(80) < 0.1
    series = np.cumsum(starts)
    run = np.array([row - np.flatnonzero(series == series[row])[0] for row in range(80)])
    stuck, missing = (int(rows) for rows in rng.integers([2, 1], 6))
    limits = SensorLimits({"flow": stuck}, {"flow": missing})
    expected = naive.called_faulty(cells.tolist(), series.tolist(), stuck=stuck, missing=missing)
    assert called(cells.tolist(), limits, run=run) == expected


def test_faults_are_the_same_in_any_cut_with_the_left_context_that_the_limits_ask_for() -> None:
    rng = np.random.default_rng(0)
    cells = rng.choice([1.0, 2.0, np.nan], size=200, p=[0.6, 0.1, 0.3]).tolist()
    limits = SensorLimits({"flow": 5}, {"flow": 3})
    assert limits.left_context == 4
    whole = called(cells, limits)
    assert {"stuck", "missing"} <= set(whole)
    for cut in range(1, 200):
        back = max(0, cut - limits.left_context)
        assert called(cells[back:], limits)[cut - back :] == whole[cut:]


def test_one_row_less_of_left_context_is_too_little() -> None:
    limits = SensorLimits({"flow": 5}, {})
    assert called([2.0] * 5, limits)[-1] == "stuck"
    assert called([2.0] * 4, limits)[-1] is None


def test_limits_are_twice_the_longest_of_normal_training_rows() -> None:
    values = np.arange(300.0)
    values[10:13] = 10.0  # three alike
    values[50:54] = np.nan
    found = sensor_limits(matrix(values), [FLOW])
    assert (found.stuck, found.missing) == ({"flow": 7}, {"flow": 9})
    values[100:120] = 100.0
    label = (np.arange(300) // 20 == 5).astype(np.int64)
    found = sensor_limits(matrix(values, label), [FLOW])
    assert (found.stuck, found.missing) == ({"flow": 7}, {"flow": 9})


def test_what_was_seen_reaches_from_the_lowest_to_the_highest_normal_reading() -> None:
    rng = np.random.default_rng(0)
    flow, label = rng.permutation(np.arange(4001.0)), np.zeros(4001, np.int64)
    flow[:100], label[:100] = 9e9, 1  # a fault
    flow[200:300] = np.nan
    level = rng.integers(0, 3, 4001).astype(float)
    levels = Sensor(name="step", kind="categorical", levels=("fill", "heat", "empty"))
    found = sensor_limits(matrix(np.column_stack([flow, level]), label), [FLOW, levels])
    assert found.seen == {"flow": (np.nanmin(flow[100:]), np.nanmax(flow[100:]))}


def test_series_that_ends_ends_what_goes_on() -> None:
    values = np.arange(300.0)
    values[10:14] = 10.0
    run = np.concatenate([np.arange(12), np.arange(288)])
    train = replace(matrix(values), run=run)
    assert sensor_limits(train, [FLOW]).stuck == {"flow": 5}


def test_sensors_that_stand_still_by_nature_are_not_watched() -> None:
    rng = np.random.default_rng(0)
    slow = np.repeat(np.arange(4.0), 100)  # moved thrice
    valve = (rng.random(400) < 0.5).astype(float)
    seldom = np.repeat(rng.normal(size=401), rng.integers(1, 200, 401))[:40_000]
    sensors = [FLOW, Sensor(name="valve", kind="binary")]
    assert sensor_limits(matrix(np.column_stack([slow, valve])), sensors).stuck == {}
    assert sensor_limits(matrix(seldom), [FLOW]).stuck == {}  # too long to wait for
    assert sensor_limits(matrix(np.full(400, np.nan)), [FLOW]) == SensorLimits()


def test_left_context_is_bounded_whatever_training_was_like() -> None:
    for longest in (1, 100, 127, 128, 1000):
        values = np.concatenate([np.arange(200.0), np.full(longest, -1.0), np.arange(200.0)])
        found = sensor_limits(matrix(values), [FLOW])
        assert found.left_context <= 255
        assert bool(found.stuck) == (longest <= 127)


@pytest.mark.parametrize("decimals", [0, 1])
def test_moving_sensor_is_hardly_ever_called_stuck(decimals: int) -> None:
    """Rounded noise, of which one value in four, or in thirty, repeats the one before it.

    Of some 1,500 runs or more each, twice the longest is exceeded by one in about 1,500 sensors: of
    200, more than three have probability below 1e-5.
    """
    rng = np.random.default_rng(decimals)
    n_called = 0
    for _ in range(200):
        values = rng.normal(size=4000).round(decimals)
        limits = sensor_limits(matrix(values[:2000]), [FLOW])
        assert limits.stuck
        n_called += "stuck" in called(values[2000:].tolist(), limits)
    assert n_called <= 3


def test_value_beyond_the_physical_range_is_a_fault_and_the_ends_are_not() -> None:
    flow = Sensor(name="flow", low=0, high=10)
    cells = [0.0, 10.0, -0.1, 10.1, float("nan")]
    found = called(cells, SensorLimits(), sensor=flow)
    assert found == [None, None, "out of range", "out of range", None]
    assert called(cells[:2], SensorLimits(), sensor=flow) == [None, None]


def test_package_keeps_its_limits_and_one_without_them_is_still_read(tmp_path: Path) -> None:
    package = seal(tmp_path / "a")
    unit = replace(
        package.units["*"],
        limits=SensorLimits({"PT-101": 40}, {"flow (RMS)": 4}, {"PT-101": (0.5, 7)}),
    )
    package = replace(package, units={"*": unit})
    assert package.left_context == 39
    package.write(tmp_path / "a")
    assert ModelPackage.read(tmp_path / "a").units["*"].limits == unit.limits
    content = json.loads((tmp_path / "a/package.json").read_text())
    del content["units"][0]["limits"]
    (tmp_path / "a/package.json").write_text(json.dumps(content))
    assert ModelPackage.read(tmp_path / "a").units["*"].limits == SensorLimits()


def test_verdict_names_faults_of_normal_and_of_anomalous_rows(tmp_path: Path) -> None:
    package = seal(tmp_path / "a")
    unit = replace(package.units["*"], limits=SensorLimits({"PT-101": 3}, {"flow (RMS)": 2}))
    table = rows(40).slice(0, 20).set_column(1, "pump", pa.array(["a"] * 20))
    pressure = table["PT-101"].to_pylist()
    pressure[5:12] = [90.0] * 7
    flow = [5.0 + 0.01 * row for row in range(20)]
    flow[10:12] = [None, None]
    table = table.set_column(table.column_names.index("PT-101"), "PT-101", pa.array(pressure))
    table = table.set_column(
        table.column_names.index("flow (RMS)"), "flow (RMS)", pa.array(flow, pa.float64())
    )
    found = replace(package, units={"*": unit}).score(table).to_pylist()
    faults = [verdict["sensor_faults"] for verdict in found]
    assert faults[6] is None
    assert faults[7:11] == [["PT-101: stuck"]] * 4
    assert faults[11] == ["PT-101: stuck", "flow (RMS): missing"]
    assert faults[12:] == [None] * 8
    frozen = found[8]
    assert frozen["status"] == "anomaly"
    assert frozen["top_directions"][frozen["top_sensors"].index("PT-101")] == "frozen"
    first = found[5]  # not yet known to be frozen
    assert first["top_directions"][first["top_sensors"].index("PT-101")] == "high"
    assert CONTRACT.sensor_names == ("PT-101", "flow (RMS)")
