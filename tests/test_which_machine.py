"""Which machine a file's rows are of: one for all files, a part of the file's name, or its stem."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from vae_anomaly.config import AssetName, Contract, PlantConfig, read_plant, settings_digest
from vae_anomaly.data.lake import READINGS, Lake, rows
from vae_anomaly.data.sources import asset_of_file
from vae_anomaly.data.windows import matrix_of, sorted_readings
from vae_anomaly.errors import ConfigError, ContractError
from vae_anomaly.steps.check import check
from vae_anomaly.steps.ingest import ingest

START = datetime(2026, 3, 9, tzinfo=UTC)
MINUTES = 1440
BY_DATE = {"from_file": r"^(.+)_\d{4}-\d\d-\d\d"}


def day_of(machine: str, day: int) -> Iterator[str]:
    """Lines of one day of a machine, a row a quarter of an hour."""
    draw = np.random.default_rng([day, *machine.encode()])
    for minute in range(0, MINUTES, 15):
        moment = START + timedelta(days=day, minutes=minute)
        yield f"{moment:%Y-%m-%dT%H:%M:%SZ},{draw.normal():.4f}"


def write_day(folder: Path, machine: str, day: int, ending: str = ".csv") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{machine}_{START + timedelta(days=day):%Y-%m-%d}{ending}"
    path.write_text("time,flow\n" + "\n".join(day_of(machine, day)) + "\n")
    return path


def plant_of(folder: Path, asset: object, *, source: str = "incoming") -> PlantConfig:
    said = "" if asset is None else f"asset: {json.dumps(asset)}, "
    (folder / "plant.yml").write_text(
        f"name: plant\nlake: lake/{source}\n"
        f"source: {{path: {source}, settle_s: 0}}\n"
        f"contract: {{time: time, {said}sampling: {{period_s: 900, max_gap_s: 3600}}, "
        "sensors: [flow]}\n"
    )
    return read_plant(folder / "plant.yml")


def readings_of(plant: PlantConfig) -> pa.Table:
    return sorted_readings(
        pa.Table.from_batches(list(rows(Lake(plant.lake, plant.contract).open(READINGS))))
    )


def test_daily_files_of_two_machines_are_the_readings_that_a_column_would_make(
    tmp_path: Path,
) -> None:
    lines = []
    for machine in ("P-101", "P-102"):
        for day in range(3):
            write_day(tmp_path / "incoming", machine, day)
            lines += [f"{line},{machine}" for line in day_of(machine, day)]
    (tmp_path / "one.csv").write_text("\n".join(["time,flow,pump", *lines]) + "\n")
    columns = ["asset", "time", "flow"]
    oracle = plant_of(tmp_path, "pump", source="one.csv")
    ingest(oracle)
    plant = plant_of(tmp_path, BY_DATE)
    report = ingest(plant)
    assert {file.status for file in report.files} == {"ingested"}
    assert readings_of(plant).select(columns).equals(readings_of(oracle).select(columns))


def test_windows_cross_midnight_and_a_later_day_is_of_the_same_machine(tmp_path: Path) -> None:
    for day in range(2):
        write_day(tmp_path / "incoming", "export", day)
    plant = plant_of(tmp_path, {"name": "pump 7"})
    ingest(plant)
    write_day(tmp_path / "incoming", "export", 2)
    assert [file.status for file in ingest(plant).files] == ["unchanged", "unchanged", "ingested"]
    table = readings_of(plant)
    assert set(table["asset"].to_pylist()) == {"pump 7"}
    # one unbroken series over both midnights
    run = matrix_of(table, plant.contract).run
    assert run.tolist() == list(range(3 * MINUTES // 15))


def test_without_a_word_each_file_stays_an_asset(tmp_path: Path) -> None:
    paths = [write_day(tmp_path / "incoming", "P-101", day) for day in range(2)]
    plant = plant_of(tmp_path, None)
    ingest(plant)
    assert set(readings_of(plant)["asset"].to_pylist()) == {path.stem for path in paths}


def test_file_whose_name_holds_no_asset_is_quarantined_and_read_when_renamed(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "incoming"
    write_day(folder, "P-101", 0)
    odd = write_day(folder, "P-101", 1).rename(folder / "copy of P-101.csv")
    plant = plant_of(tmp_path, BY_DATE)
    (unnamed, named) = sorted(ingest(plant).files, key=lambda file: file.path != str(odd))
    assert (unnamed.status, named.status) == ("quarantined", "ingested")
    assert "finds no asset in 'copy of P-101'" in (unnamed.reason or "")
    # it is known, with its reason, and not read again
    (again, _) = sorted(ingest(plant).files, key=lambda file: file.path != str(odd))
    assert (again.status, again.reason) == ("unchanged", unnamed.reason)
    (error, _) = sorted(check(plant).files, key=lambda file: file.path != str(odd))
    assert error.error == unnamed.reason
    odd.rename(folder / "P-101_2026-03-10.csv")
    ingest(plant)
    assert readings_of(plant).num_rows == 2 * MINUTES // 15
    assert set(readings_of(plant)["asset"].to_pylist()) == {"P-101"}


def test_two_files_without_an_asset_are_both_quarantined_though_they_are_alike(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "incoming"
    path = write_day(folder, "P-101", 0)
    (folder / "b.csv").write_text(path.read_text())
    path.rename(folder / "a.csv")
    report = ingest(plant_of(tmp_path, BY_DATE))
    assert [file.status for file in report.files] == ["quarantined", "quarantined"]


def test_same_content_of_two_machines_is_of_both_and_a_copy_of_one_is_repeated(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "incoming"
    text = write_day(folder, "P-101", 0).read_text()
    for name in ("P-102_2026-03-09", "P-101_2026-03-09_again"):
        (folder / f"{name}.csv").write_text(text)
    plant = plant_of(tmp_path, BY_DATE)
    statuses = {Path(file.path).stem: file.status for file in ingest(plant).files}
    assert statuses == {
        "P-101_2026-03-09": "ingested",
        "P-101_2026-03-09_again": "repeated",
        "P-102_2026-03-09": "ingested",
    }
    assert sorted(set(readings_of(plant)["asset"].to_pylist())) == ["P-101", "P-102"]


@pytest.mark.parametrize(
    ("asset", "path", "found"),
    [
        (None, "in/a_1.csv.gz", "a_1"),
        ("pump", "in/a_1.csv.gz", ""),
        ({"name": "pump 1"}, "s3://plant/a_1.csv.gz", "pump 1"),
        ({"from_file": r"_(\d+)$"}, "s3://plant/a_1.csv.gz", "1"),
        ({"from_file": r"([^/]+)/[^/]+$"}, "in/P-101/2026-03-09.csv", "P-101"),
        ({"from_file": r"(?:pump|fan)-(\w+?)_"}, "in/fan-7_x_y.parquet", "7"),
    ],
)
def test_asset_of_a_path(asset: object, path: str, found: str) -> None:
    contract = Contract.model_validate({"time": "t", "asset": asset, "sensors": ["flow"]})
    assert asset_of_file(path, contract) == found


@pytest.mark.parametrize("expression", [r"^(\d+)_", r"^( *)a", r"^(b)?"])
def test_group_that_holds_nothing_is_no_asset(expression: str) -> None:
    contract = Contract(time="t", asset=AssetName(from_file=expression), sensors=("flow",))
    with pytest.raises(ContractError, match="finds no asset in 'a_1'"):
        asset_of_file("in/a_1.csv", contract)


def test_column_is_written_and_digested_as_ever() -> None:
    """The lakes that there are would be read anew otherwise."""
    with_column = Contract(time="t", asset="pump", sensors=("flow",))
    assert with_column.model_dump()["asset"] == "pump"
    assert Contract(time="t", sensors=("flow",)).model_dump()["asset"] is None
    assert settings_digest(with_column) == (
        "db442779d70dec34e167d3e93e40dc72a07021206157e0d1b564bdd6ab45f21c"
    )
    assert settings_digest(Contract(time="t", sensors=("flow",))) == (
        "021aa4e0713f99d2d5b68af316ae52166ecd287d957d01a4ca0436b4d1c3fba0"
    )
    named = Contract.model_validate({"time": "t", "asset": {"name": "a"}, "sensors": ["flow"]})
    for contract in (with_column, named):
        assert Contract.model_validate_json(contract.model_dump_json()) == contract


@pytest.mark.parametrize(
    ("asset", "said"),
    [
        ({"from_file": "pump"}, "has 0 groups"),
        ({"from_file": "(a)(b)"}, "has 2 groups"),
        ({"from_file": "(a"}, "no regular expression"),
        ({"name": "a", "from_file": "(a)"}, "name and from_file is given"),
        ({}, "nothing is given"),
        ({"name": ""}, "nothing is given"),
        (["a"], "valid dictionary"),
    ],
)
def test_asset_that_says_nothing_or_too_much_is_refused(asset: object, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Contract.model_validate({"time": "t", "asset": asset, "sensors": ["flow"]})


def test_misspelt_key_is_named_and_a_table_has_no_file_names(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"asset\.from_files: unknown key; did you mean 'from_file"
    ):
        plant_of(tmp_path, {"from_files": "(a)"})
    text = "name: p\nsource: {database: {uri: 'sqlite:///a.db', table: t, watermark: n}}\n"
    text += "contract: {time: time, asset: {from_file: '(a)'}, sensors: [flow]}\n"
    (tmp_path / "plant.yml").write_text(text)
    with pytest.raises(ConfigError, match="from_file needs files"):
        read_plant(tmp_path / "plant.yml")
