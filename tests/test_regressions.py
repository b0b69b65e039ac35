"""Faults that somebody found by trying to break it; each came back as a test."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from crash import Row, finish, lake_content, run_all, start, write_file, write_plant

from vae_anomaly import ModelPackage, VAEDetector
from vae_anomaly.config import PlantConfig, read_plant
from vae_anomaly.data.lake import READINGS, VERDICTS, Lake, rows
from vae_anomaly.data.sources import list_files
from vae_anomaly.errors import ConfigError, RegistryError
from vae_anomaly.steps.calibrate import calibrate
from vae_anomaly.steps.evaluate import figures_of
from vae_anomaly.steps.ingest import ingest
from vae_anomaly.steps.judged import of_part, of_units
from vae_anomaly.steps.register import register
from vae_anomaly.steps.score import score
from vae_anomaly.steps.train import fingerprint_of, latest_trained, read_trained, train
from vae_anomaly.tracking.names import key


def edit(path: Path, old: str, new: str) -> PlantConfig:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return read_plant(path)


def status_counts(plant: PlantConfig) -> dict[str, int]:
    table = Lake(plant.lake, plant.contract).open(VERDICTS)
    found = pa.concat_tables(pa.Table.from_batches([b]) for b in rows(table))
    return {r["values"]: r["counts"] for r in found["status"].value_counts().to_pylist()}


# ----------------------------------------------------------------------------------- calibration


@pytest.mark.slow
def test_rows_without_values_neither_calibrate_nor_count_as_normal(tmp_path: Path) -> None:
    path = write_plant(tmp_path, n_files=0)
    write_file(tmp_path / "incoming/0.csv", 0, n_rows=1600, seed=0)
    file = tmp_path / "incoming/0.csv"
    lines = file.read_text().splitlines()
    emptied = [
        ",".join([*line.split(",")[:2], "", "", ""]) if i > 800 and i % 4 else line
        for i, line in enumerate(lines)
    ]
    file.write_text("\n".join(emptied) + "\n")
    plant = edit(path, "window: 3\nsmoothing: 0.5\n", "")
    run_all(plant)
    found = status_counts(plant)
    assert found["not_scored"] > 500
    share = found["anomaly"] / (found["anomaly"] + found["normal"])
    assert share < 0.1, "asked for 5 %; it was 18 % while empty rows calibrated"
    folder = latest_trained(plant)
    package = ModelPackage.read(folder / "package")
    lake = Lake(plant.lake, plant.contract)
    part = of_units(lake.open(READINGS), read_trained(folder).intervals, "calibrate", package)
    calibration = package.units["*"].calibration
    assert calibration is not None
    assert len(calibration.reference) == part["*"].judged.sum()


# ------------------------------------------------------------------------- settings that changed


@pytest.mark.slow
def test_changed_plant_file_is_not_calibrated_with_the_old_weights(tmp_path: Path) -> None:
    path = write_plant(tmp_path)
    plant = read_plant(path)
    ingest(plant)
    folder = train(plant).folder
    changed = edit(
        path, "{name: flow, low: -50}, pressure, power", "pressure, {name: flow, low: -50}, power"
    )
    for step in (calibrate, register):
        with pytest.raises(RegistryError, match="other settings now"):
            step(changed, folder)
    with pytest.raises(RegistryError, match="with the present settings"):
        latest_trained(changed)
    assert latest_trained(plant) == folder


@pytest.mark.slow
def test_contract_that_changes_its_sensors_still_registers(tmp_path: Path) -> None:
    path = write_plant(tmp_path)
    plant = read_plant(path)
    run_all(plant)
    champion = ModelPackage.read(latest_trained(plant) / "package")
    fewer = edit(path, ", power]", "]")
    run_all(fewer)
    trained = read_trained(latest_trained(fewer))
    assert figures_of(fewer, trained, champion) is not None, "by its own contract, on old columns"
    other = edit(path, "pressure]", "pressure, level]")
    text = (tmp_path / "incoming/0.csv").read_text().splitlines()
    grown = [text[0] + ",level", *(f"{line},{i % 7}" for i, line in enumerate(text[1:]))]
    (tmp_path / "incoming/new.csv").write_text(
        "\n".join(grown).replace("2026-03-01", "2026-04-01") + "\n"
    )
    report = ingest(other)
    assert report.counts.complete
    assert score(other).n_rows > 0, "the old champion goes on"


@pytest.mark.slow
def test_champion_trained_on_a_lost_sensor_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_plant(tmp_path)
    run_all(read_plant(path))
    plant = edit(path, ", power]", "]")
    write_file(tmp_path / "incoming/9.csv", 9, n_rows=40, seed=0)
    ingest(plant)
    score(plant)
    assert "was trained on 'power', which plant.yml no longer names" in caplog.text


# ------------------------------------------------------------------------------- paths and tables


@pytest.mark.slow
@pytest.mark.parametrize("name", ["with space", "ümlaut", "a#b", "a+b&c"])
def test_lake_may_lie_under_an_odd_path(name: str, tmp_path: Path) -> None:
    plant = read_plant(write_plant(tmp_path / name, n_files=2))
    run_all(plant)
    run_all(plant)
    assert sum(status_counts(plant).values()) == ingest_total(plant)


def ingest_total(plant: PlantConfig) -> int:
    return sum(b.num_rows for b in rows(Lake(plant.lake, plant.contract).open(READINGS)))


@pytest.mark.parametrize("name", ["a[1]", "50%"])
def test_lake_under_an_impossible_path_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set lake to a folder without it"):
        read_plant(write_plant(tmp_path / name, n_files=0))


def test_log_is_kept_for_years(tmp_path: Path) -> None:
    plant = read_plant(write_plant(tmp_path, n_files=1))
    ingest(plant)
    settings = Lake(plant.lake, plant.contract).open(READINGS).metadata().configuration
    assert settings["delta.logRetentionDuration"] == "interval 3650 days"
    assert settings["delta.enableChangeDataFeed"] == "true"


@pytest.mark.slow
def test_deleted_mlflow_database_is_made_again(tmp_path: Path) -> None:
    path = write_plant(tmp_path)
    plant = read_plant(path)
    for step in ("ingest", "train"):
        assert finish(start(path, step))
    shutil.rmtree(plant.work_path / "mlflow")
    run_all(plant)
    assert status_counts(plant)


@pytest.mark.slow
def test_lost_models_folder_trains_nothing_again(tmp_path: Path) -> None:
    plant = read_plant(write_plant(tmp_path))
    run_all(plant)
    shutil.rmtree(plant.work_path / "models")
    assert train(plant).registered == "1"
    run_all(plant)


# ---------------------------------------------------------------------------------------- ingest


def test_renamed_file_is_read_where_its_name_was_the_fault(tmp_path: Path) -> None:
    plant = read_plant(write_plant(tmp_path, n_files=1))
    file = tmp_path / "incoming/0.csv"
    file.write_text(file.read_text().replace(",", "\t"))
    assert ingest(plant).with_status("quarantined")
    file.rename(tmp_path / "incoming/0.tsv")
    assert ingest(plant).counts.n_accepted > 300


def test_damaged_file_is_remembered_and_not_read_every_hour(tmp_path: Path) -> None:
    plant = read_plant(write_plant(tmp_path, n_files=1))
    whole = bytearray(gzip.compress((tmp_path / "incoming/0.csv").read_bytes()))
    whole[-6] ^= 0xFF  # the checksum
    (tmp_path / "incoming/bad.csv.gz").write_bytes(whole)
    first = ingest(plant)
    assert first.with_status("quarantined")
    assert not ingest(plant).with_status("quarantined")
    assert {file.status for file in ingest(plant).files} == {"unchanged"}


def test_damaged_file_and_its_copy_are_counted_once(tmp_path: Path) -> None:
    plant = read_plant(write_plant(tmp_path, n_files=0))
    write_file(tmp_path / "whole.csv", 0, n_rows=200, seed=0)
    damaged = gzip.compress((tmp_path / "whole.csv").read_bytes())[:-40]
    for name in ("a", "b"):
        (tmp_path / f"incoming/{name}.csv.gz").write_bytes(damaged)
    report = ingest(plant)
    assert [file.status for file in report.files] == ["quarantined", "repeated"]
    assert report.counts.n_accepted > 0
    content = lake_content(tmp_path / "lake/crash")
    assert sum(number(row, "n_accepted") for row in content["files"]) == len(content["readings"])


@pytest.mark.slow
def test_same_content_under_two_names_at_once_is_counted_once(tmp_path: Path) -> None:
    path = write_plant(tmp_path, n_files=1, n_rows=4000)
    shutil.copy(tmp_path / "incoming/0.csv", tmp_path / "incoming/1.csv")
    for process in [start(path, "ingest") for _ in range(3)]:
        assert finish(process)
    content = lake_content(tmp_path / "lake/crash")
    assert sum(number(row, "n_accepted") for row in content["files"]) == len(content["readings"])


def number(row: Row, name: str) -> int:
    value = row[name]
    assert isinstance(value, int)
    return value


def test_lake_below_the_source_is_not_read_as_input(tmp_path: Path) -> None:
    path = write_plant(tmp_path, n_files=1)
    plant = edit(path, "path: incoming", "path: .")
    first = ingest(plant)
    again = ingest(plant)
    assert len(list_files(plant.source)) > len(again.files)
    assert {Path(f.path).name for f in again.files} == {Path(f.path).name for f in first.files}


def test_fingerprint_is_of_the_rows_and_not_of_the_notes(tmp_path: Path) -> None:
    plant = read_plant(write_plant(tmp_path, n_files=2))
    ingest(plant)
    readings = Lake(plant.lake, plant.contract).open(READINGS)
    before = fingerprint_of(plant, readings)
    shutil.rmtree(Path(plant.lake, "files"))
    ingest(plant)
    readings = Lake(plant.lake, plant.contract).open(READINGS)
    assert fingerprint_of(plant, readings) == before
    readings.optimize.compact()
    assert fingerprint_of(plant, readings) == before
    assert fingerprint_of(plant.model_copy(update={"seed": 1}), readings) != before


# ------------------------------------------------------------------------------- assets and parts


@pytest.mark.slow
def test_new_asset_with_few_rows_stops_nobody(tmp_path: Path) -> None:
    path = write_plant(tmp_path)
    path.write_text(path.read_text() + "model: {per: asset}\n")
    lines = [f"2026-03-01T00:00:{i:02}Z,new,0.1,0.2,{i}" for i in range(9)]
    (tmp_path / "incoming/new.csv").write_text(
        "\n".join(["time,asset,flow,pressure,power", *lines]) + "\n"
    )
    plant = read_plant(path)
    run_all(plant)
    package = ModelPackage.read(latest_trained(plant) / "package")
    assert set(package.units) == {"a", "b"}
    assert any("asset 'new'" in note for note in package.provenance.notes)
    assert status_counts(plant)["not_scored"] == 9


@pytest.mark.slow
def test_asset_of_the_test_part_only_is_left_out_of_a_model_an_asset(tmp_path: Path) -> None:
    path = write_plant(tmp_path)
    shares = {"train": "[0, 0.5]", "stop": "[0.5, 0.6]", "calibrate": "[0.6, 0.9]"}
    entries = [f"  - {{part: {p}, assets: [a], share: {s}}}" for p, s in shares.items()]
    path.write_text(
        path.read_text()
        + "model: {per: asset}\nparts:\n  listed:\n"
        + "\n".join(f"  {entry}" for entry in [*entries, '  - {part: test, assets: ["b"]}'])
        + "\n"
    )
    plant = read_plant(path)
    run_all(plant)
    found = status_counts(plant)
    assert found["not_scored"] > 700


@pytest.mark.slow
def test_windows_do_not_reach_across_a_hole_in_a_part(tmp_path: Path) -> None:
    path = write_plant(tmp_path)
    ranges = [("train", 0, 0.2), ("train", 0.4, 0.6), ("stop", 0.6, 0.7), ("calibrate", 0.7, 1)]
    path.write_text(
        path.read_text()
        + "parts:\n  listed:\n"
        + "\n".join(f"    - {{part: {p}, share: [{a}, {b}]}}" for p, a, b in ranges)
        + "\n"
    )
    plant = read_plant(path)
    ingest(plant)
    folder = train(plant).folder
    readings = Lake(plant.lake, plant.contract).open(READINGS)
    found = of_part(readings, read_trained(folder).intervals, "train", plant.contract)["a"].alone()
    assert (np.flatnonzero(found.run == 0)).size == 2


def test_two_names_never_become_one_metric() -> None:
    names = ["a(1)/bound", "a[1]/bound", "../threshold", "threshold", "x" * 300, "x" * 301]
    assert len({key(name) for name in names}) == len(names)


# -------------------------------------------------------------------------------------- detector


def test_series_that_ends_in_anomalies_says_what_is_missing() -> None:
    X = np.random.default_rng(0).normal(size=(200, 2))
    with pytest.raises(ValueError, match="end the series with normal rows"):
        VAEDetector(window=3, random_state=0).fit(X, (np.arange(200) >= 150).astype(int))


def test_window_that_is_no_number_of_rows_is_refused() -> None:
    X = np.random.default_rng(0).normal(size=(50, 2))
    for window in ("3", 2.5):
        with pytest.raises(ValueError, match="whole number of rows"):
            VAEDetector(window=window).fit(X)  # type: ignore[arg-type]


def test_package_json_keeps_no_path_of_the_machine(tmp_path: Path) -> None:
    from sealed import seal

    seal(tmp_path / "package")
    text = json.dumps(json.loads((tmp_path / "package/package.json").read_text()))
    assert str(tmp_path) not in text
