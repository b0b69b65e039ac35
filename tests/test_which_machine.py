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
from vae_anomaly.data.infer.machines import Machines, find_machines
from vae_anomaly.data.lake import READINGS, Lake, rows
from vae_anomaly.data.sources import asset_of_file
from vae_anomaly.data.windows import matrix_of, sorted_readings
from vae_anomaly.errors import ConfigError, ContractError
from vae_anomaly.steps.check import check
from vae_anomaly.steps.ingest import ingest
from vae_anomaly.steps.init import init, init_table

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
        ({"name": " "}, "nothing is given"),
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


# -------------------------------------------------------------------------- what `init` makes of it

IN_TURN, AT_ONCE = [0.0, 24.0, 48.0], [0.0, 0.0, 0.0]
BEFORE_DATE = r"^(.+?)[-_. ]+20\d\d-\d\d(?!\d)"


def machines_of(names: list[str], begins: list[float], hours: float) -> Machines:
    """Of files that begin at these hours and last for so many; half an hour is no gap yet."""
    first = np.array(begins)
    return find_machines(names, first, first + hours, max_gap=0.5, name="plant")


@pytest.mark.parametrize(
    ("names", "begins", "hours", "setting", "of_file"),
    [
        (["p_2026-11-01", "p_2026-11-02", "p_2026-11-03"], IN_TURN, 8, {"name": "p"}, [0, 0, 0]),
        (["2026-11-01", "2026-11-02", "2026-11-03"], IN_TURN, 8, {"name": "plant"}, [0, 0, 0]),
        (["2026-11-01"], [0.0], 8, {"name": "plant"}, [0]),
        (["P-2011_01.11.2026", "P-2011_02.11.2026"], [24, 0], 23.9, {"name": "P-2011"}, [0, 0]),
        (["20261101T06 fan", "20261102T06 fan"], [0, 24], 23.9, {"name": "fan"}, [0, 0]),
        (
            ["a_2026-11-01", "a_2026-11-02", "b_2026-11-01"],
            [0, 24, 0],
            23.9,
            {"from_file": BEFORE_DATE},
            [0, 0, 1],
        ),
        (["a_2026-11-01", "b_2026-11-01"], [0, 0], 24, {"from_file": BEFORE_DATE}, [0, 1]),
        # the dates do not tell rows of one machine apart: nothing is known
        (["p_2026-11-01", "p_2026-11-01_2"], [0, 0], 24, None, [0, 1]),
        # a number is a machine's, unless the files are one recording that was cut
        (["pump_1", "pump_2", "pump_3"], AT_ONCE, 24, None, [0, 1, 2]),
        (["pump_1", "pump_2", "pump_3"], IN_TURN, 23.9, {"name": "pump"}, [0, 0, 0]),
        (["pump_1", "pump_2", "pump_3"], IN_TURN, 8, None, [0, 1, 2]),
        (["mon", "tue", "wed"], IN_TURN, 24, {"name": "plant"}, [0, 0, 0]),
        (["mon", "tue", "wed"], IN_TURN, 8, None, [0, 1, 2]),
        (["a", "b", "c"], [0, 12, 30], 24, None, [0, 1, 2]),
        (["pump 7"], [0.0], 24, None, [0]),
        (["x/1", "x/2", "y/1"], [0, 24, 0], 24, {"from_file": r"([^/]+)/[^/]+$"}, [0, 0, 1]),
        (["x/1", "x/2", "y/1"], AT_ONCE, 24, None, [0, 1, 0]),
    ],
)  # fmt: skip
def test_machines_are_found_by_names_and_times(
    names: list[str],
    begins: list[float],
    hours: float,
    setting: dict[str, str] | None,
    of_file: list[int],
) -> None:
    paths = [f"in/{name}.csv" for name in names]
    found = machines_of(paths, begins, hours)
    assert (found.setting and found.setting.model_dump()) == setting
    assert found.of_file.tolist() == of_file
    if found.setting is not None:  # an ingest tells the files apart as `init` did
        contract = Contract(time="t", asset=found.setting, sensors=("flow",))
        told = [asset_of_file(path, contract) for path in paths]
        assert np.unique(told, return_inverse=True)[1].tolist() == of_file
        assert "leave the line asset out" in found.note
    elif begins == IN_TURN:
        assert "write asset: {name: …}" in found.note
    elif len({Path(path).stem for path in paths}) < len(paths):
        assert "write asset: {from_file: …}" in found.note
    else:
        assert not found.note


@pytest.mark.parametrize(("machines", "name"), [(["P-101"], "P-101"), (["P-101", "P-102"], "")])
def test_daily_files_become_a_plant_file_that_ingests_them_as_machines(
    machines: list[str], name: str, tmp_path: Path
) -> None:
    for machine in machines:
        for day in range(3):
            write_day(tmp_path / "incoming", machine, day)
    report = init([str(tmp_path / "incoming")], tmp_path / "plant.yml")
    assert report.plant.contract.asset_name == name
    assert report.found.n_assets == len(machines)
    assert any("asset: " in note for note in init_table(report).notes)
    assert check(report.plant).is_clean
    ingest(report.plant)
    table = readings_of(report.plant)
    assert sorted(set(table["asset"].to_pylist())) == machines
    assert table.num_rows == len(machines) * 3 * MINUTES // 15


def test_file_a_machine_stays_an_asset_a_file(tmp_path: Path) -> None:
    for machine in ("a", "b"):
        path = write_day(tmp_path / "incoming", machine, 0)
        path.rename(path.with_name(f"{machine}.csv"))
    report = init([str(tmp_path / "incoming")], tmp_path / "plant.yml")
    assert report.plant.contract.asset is None
    assert "# asset: none; each file is an asset" in report.text
    assert not any("asset: " in note for note in report.found.notes)


@pytest.mark.parametrize(
    "names",
    [
        [f"2026-{month:02d}-{day:02d}.csv" for month in (1, 2) for day in (1, 2)],
        [f"2026{month:02d}{day:02d}_000000.csv" for month in (1, 2) for day in (1, 2)],
        [f"2026-{month:02d}/export.csv" for month in (1, 2, 3, 4)],
    ],
)
def test_a_date_is_no_machine(names: list[str]) -> None:
    first = np.arange(4.0)
    found = find_machines(names, first, first + 0.9, max_gap=1, name="plant")
    assert found.setting == AssetName(name="plant")


def test_machines_may_be_called_by_numbers() -> None:
    names = [f"{machine}_2026-01-0{day}.csv" for machine in (101, 102) for day in (1, 2)]
    first = np.array([0.0, 1.0, 0.0, 1.0])
    found = find_machines(names, first, first + 0.9, max_gap=1, name="plant")
    assert found.of_file.tolist() == [0, 0, 1, 1]
