"""From files as they are to verdicts on every reading, with nothing edited by hand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from crash import run_all
from hostile import write_hostile
from test_public_data import needs, table_of

from vae_anomaly.config import PlantConfig, read_plant
from vae_anomaly.data.lake import FILES, QUARANTINE, READINGS, VERDICTS
from vae_anomaly.steps.check import check
from vae_anomaly.steps.init import init

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Ran:
    """A plant whose file was inferred, run to its end."""

    plant: PlantConfig
    read: int
    accepted: int
    quarantined: int
    duplicate: int
    readings: pa.Table


def init_and_run(source: Path, folder: Path) -> Ran:
    out = folder / "plant.yml"
    init([str(source)], out)
    plant = read_plant(out)
    run_all(plant)
    files = table_of(plant, FILES)
    counts = [
        sum(files[f"n_{name}"].to_pylist())
        for name in ("read", "accepted", "quarantined", "duplicate")
    ]
    assert counts[0] == sum(counts[1:])
    readings = table_of(plant, READINGS)
    verdicts = table_of(plant, VERDICTS)
    keys = set(zip(verdicts["asset"].to_pylist(), verdicts["time"].to_pylist(), strict=True))
    assert readings.num_rows == counts[1] == verdicts.num_rows == len(keys)
    return Ran(plant, *counts, readings)


def test_refinery_of_108_tags(tmp_path: Path) -> None:
    ran = init_and_run(needs("bibmon_real_process") / "real_process_data.csv", tmp_path)
    contract = ran.plant.contract
    assert contract.time.column == "column 1"
    assert contract.sampling.period_s == 300
    assert len(contract.sensors) == 108
    assert ran.accepted == ran.read == 3169
    constant = [s.name for s in contract.sensors if s.low is None]
    assert len(constant) == 14


def test_water_circuit_of_16_recordings(tmp_path: Path) -> None:
    ran = init_and_run(needs("skab/data/valve1"), tmp_path)
    contract = ran.plant.contract
    assert (contract.time.column, contract.label) == ("datetime", "anomaly")
    # each recording begins where another ends: they are of one machine
    assert contract.asset_name == "valve1"
    assert set(ran.readings["asset"].to_pylist()) == {"valve1"}
    assert len(contract.sensors) == 8
    assert "changepoint" not in contract.columns()
    assert ran.accepted == ran.read == 18_160


def test_engines_without_a_header(tmp_path: Path) -> None:
    ran = init_and_run(needs("cmapss_fd001") / "train_FD001.txt", tmp_path)
    contract = ran.plant.contract
    assert (contract.asset_column, contract.time.column, contract.time.step_s) == (
        "column 1", "column 2", 1
    )  # fmt: skip
    assert contract.sensor_names == tuple(f"column {n}" for n in range(3, 27))
    assert ran.accepted == ran.read == 20_631
    assert len(set(ran.readings["asset"].to_pylist())) == 100


def test_milling_machine_with_types_and_failures(tmp_path: Path) -> None:
    ran = init_and_run(needs("ai4i2020") / "ai4i2020.csv", tmp_path)
    assert ran.accepted == ran.read == 10_000
    contract = ran.plant.contract
    assert (contract.time.column, contract.time.step_s) == ("UDI", 1)
    assert contract.label == "Machine failure"
    assert [(s.name, s.levels) for s in contract.context] == [("Type", ("H", "L", "M"))]
    assert {s.unit for s in contract.sensors} == {"K", "rpm", "Nm", "min"}


def test_machine_of_one_sensor(tmp_path: Path) -> None:
    ran = init_and_run(needs("nab_machine") / "machine_temperature_system_failure.csv", tmp_path)
    contract = ran.plant.contract
    assert (contract.time.column, contract.sensor_names) == ("timestamp", ("value",))
    assert contract.sampling.period_s == 300
    assert ran.read == 22_695
    # the recording has one hour twice, with other values: the first stays
    assert set(table_of(ran.plant, QUARANTINE)["reason"].to_pylist()) == {"conflicting"}


def test_bearings_whose_clock_is_written_with_dots(tmp_path: Path) -> None:
    ran = init_and_run(needs("ims_bearing") / "2nd_test_resmaple_10minutes.csv", tmp_path)
    contract = ran.plant.contract
    assert (contract.time.column, contract.time.format) == ("Datetime", "%Y.%m.%d.%H.%M.%S")
    assert contract.sensor_names == ("Bearing 1", "Bearing 2", "Bearing 3", "Bearing 4")
    assert contract.sampling.period_s == 600
    assert ran.accepted == ran.read == 984


def test_batches_without_a_clock(tmp_path: Path) -> None:
    ran = init_and_run(needs("process_improve") / "nylon.csv", tmp_path)
    contract = ran.plant.contract
    assert (contract.asset_column, contract.time.column, contract.time.step_s) == (
        "batch_id",
        "",
        1,
    )
    assert len(contract.sensors) == 10
    assert ran.accepted == ran.read == 6641
    assert len(set(ran.readings["asset"].to_pylist())) == 57


def test_long_table_with_codes_and_a_deadband(tmp_path: Path) -> None:
    """Tags report when they change; a value whose quality is bad is none."""
    generator = np.random.default_rng(0)
    lines = ["TagName;TimeStamp;Value;Quality"]
    start = datetime(2026, 3, 1)
    load = np.sin(np.arange(3000) / 40)
    for number, tag in enumerate(("PT-101", "FT-102", "TT-103")):
        level = 0.0
        for minute, value in enumerate(load * (number + 1) + generator.normal(0, 0.05, 3000)):
            if abs(value - level) < 0.1 * (number + 1):
                continue
            level, moment = value, start + timedelta(minutes=minute)
            quality = "Bad" if generator.random() < 0.01 else "Good"
            lines.append(f"{tag};{moment:%Y-%m-%d %H:%M:%S};{value + 20:.3f};{quality}")
    (tmp_path / "export.csv").write_text("\n".join(lines) + "\n")
    report = init([str(tmp_path / "export.csv")], tmp_path / "plant.yml")
    contract = report.plant.contract
    assert contract.long is not None
    assert (contract.long.tag, contract.long.value) == ("TagName", "Value")
    assert contract.quality.column == "Quality"
    assert set(contract.sensor_names) == {"PT-101", "FT-102", "TT-103"}
    assert contract.sampling.resample == "last"
    run_all(report.plant)
    files = table_of(report.plant, FILES)
    assert sum(files["n_read"].to_pylist()) == sum(files["n_accepted"].to_pylist())
    assert sum(files["n_read"].to_pylist()) == len(lines) - 1
    readings, verdicts = (table_of(report.plant, name) for name in (READINGS, VERDICTS))
    assert readings.num_rows == verdicts.num_rows > 500
    assert set(verdicts["status"].to_pylist()) <= {"normal", "anomaly"}


def test_hostile_file(tmp_path: Path) -> None:
    path = tmp_path / "Export Süd.csv"
    wrote = write_hostile(path)
    report = init([str(path)], tmp_path / "plant.yml", dry_run=True)
    assert report.plant.contract.time.zone == "Europe/Berlin"
    ran = init_and_run(path, tmp_path)
    source, contract = ran.plant.source, ran.plant.contract
    assert (source.delimiter, source.decimal, source.encoding) == (";", ",", "cp1252")
    assert source.skip_lines == 3
    assert (contract.time.column, contract.time.format) == ("Zeit", "%d.%m.%Y %H:%M")
    assert contract.sensor_names == (
        "Ofen °C", "Druck [bar]", "Durchfluss", "Lager Temp", "Sollwert"
    )  # fmt: skip
    assert ran.read == wrote.n_lines
    assert ran.duplicate == wrote.n_repeated
    reasons = table_of(ran.plant, QUARANTINE)["reason"].to_pylist()
    assert reasons.count("above_range") >= wrote.n_fahrenheit
    assert ran.accepted == wrote.n_moments - wrote.n_fahrenheit
    assert max(ran.readings["time"].to_pylist()) < wrote.first_fahrenheit
    checked = check(ran.plant)
    (file,) = checked.files
    assert (file.n_read, file.n_repeated, file.n_conflicting + file.n_refused) == (
        ran.read, ran.duplicate, ran.quarantined
    )  # fmt: skip
