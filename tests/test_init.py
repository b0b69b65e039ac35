"""`init` writes plant files that are read back, and says what it cannot do."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hostile import write_hostile
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cli import command

from vae_anomaly.config import Budget, read_plant
from vae_anomaly.data.infer.plant_file import scalar
from vae_anomaly.errors import ConfigError, SourceError
from vae_anomaly.steps.init import init, init_table

START = datetime(2026, 3, 9, tzinfo=UTC)


def write_csv(path: Path, n_rows: int = 600, **columns: object) -> Path:
    """A table with a column of times each minute, and these columns of texts or numbers."""
    lines = [",".join(["time", *columns])]
    for at in range(n_rows):
        cells = [str(values[at]) for values in columns.values()]  # type: ignore[index]
        lines.append(",".join([f"{START + at * timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}", *cells]))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def flow() -> np.ndarray:
    return np.random.default_rng(0).normal(50.0, 2.0, size=600).round(3)


@settings(max_examples=300, deadline=None)
@given(st.text(min_size=1, max_size=20) | st.floats(allow_nan=False, allow_infinity=False))
def test_any_value_in_the_file_is_read_back(value: str | float) -> None:
    read = yaml.safe_load(f"{{key: {scalar(value)}, after: 1}}")
    assert read["after"] == 1
    if isinstance(value, str):
        assert read["key"] == value
    else:
        assert read["key"] == pytest.approx(value, rel=1e-9)


def test_plant_file_is_what_the_table_says(tmp_path: Path, flow: np.ndarray) -> None:
    odd = ["Bad" if at % 50 == 3 else "Sensor Ausfall" if at % 70 == 9 else v
           for at, v in enumerate(flow + 3)]  # fmt: skip
    path = write_csv(
        tmp_path / "pump 7.csv",
        **{"flow [m3/h]": flow, "level %": np.abs(flow), "odd": odd, "set": [7] * 600,
           "total": np.cumsum(np.abs(flow)), "copy": flow * 2 + 1, "fault": [0] * 590 + [1] * 10,
           "serial": [f"S{at}" for at in range(600)]},
    )  # fmt: skip
    report = init([str(path)], tmp_path / "plant.yml")
    plant = read_plant(tmp_path / "plant.yml")
    assert plant == report.plant
    assert plant.name == "pump-7"
    assert yaml.safe_load(report.text)["source"]["path"] == "pump 7.csv"
    assert plant.contract.sensor_names == ("flow [m3/h]", "level %", "odd", "set", "copy")
    sensors = {sensor.name: sensor for sensor in plant.contract.sensors}
    assert (sensors["flow [m3/h]"].unit, sensors["level %"].unit) == ("m3/h", "%")
    assert (sensors["level %"].low, sensors["level %"].high) == (-5, 105)
    assert (sensors["set"].low, sensors["set"].high) == (None, None)
    assert plant.contract.label == "fault"
    assert "Sensor Ausfall" in plant.contract.quality.texts
    assert "Bad" in plant.contract.quality.texts
    assert plant.contract.sampling.period_s == 60
    for name, word in (("total", "only ever rises"), ("serial", "different texts")):
        (line,) = (line for line in report.text.splitlines() if f"# - {{name: {name}" in line)
        assert word in line
    # a line that is left out is taken in without its mark
    taken = report.text.replace("# - {name: total", "- {name: total")
    (tmp_path / "plant.yml").write_text(taken)
    assert "total" in read_plant(tmp_path / "plant.yml").contract.sensor_names


def test_same_files_give_the_same_text(tmp_path: Path, flow: np.ndarray) -> None:
    path = write_csv(tmp_path / "a.csv", flow=flow)
    texts = {init([str(path)], tmp_path / "p.yml", dry_run=True).text for _ in range(3)}
    assert len(texts) == 1
    assert not (tmp_path / "p.yml").exists()


def test_parquet_is_looked_at_with_its_types(tmp_path: Path, flow: np.ndarray) -> None:
    times = [START + at * timedelta(seconds=30) for at in range(600)]
    table = pa.table({"t": pa.array(times), "flow": flow, "on": flow > 50})
    pq.write_table(table, tmp_path / "a.parquet")
    contract = init([str(tmp_path / "a.parquet")], tmp_path / "plant.yml").plant.contract
    assert contract.time.column == "t"
    assert contract.sampling.period_s == 30
    assert [(s.name, s.kind) for s in contract.sensors] == [
        ("flow", "continuous"),
        ("on", "binary"),
    ]


def test_long_table_becomes_a_sensor_a_tag(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["timestamp;tagname;value;quality"]
    for at in range(900):
        moment = START + timedelta(seconds=float(rng.integers(1, 9)) + 10 * at)
        tag = ["FT-101", "PT-102", "TT-103"][at % 3]
        good = "Good" if at % 40 else "Bad"
        lines.append(f"{moment:%Y-%m-%d %H:%M:%S};{tag};{rng.normal(50, 2):.2f};{good}")
    (tmp_path / "long.csv").write_text("\n".join(lines) + "\n")
    contract = init([str(tmp_path / "long.csv")], tmp_path / "plant.yml").plant.contract
    assert contract.long is not None
    assert (contract.long.tag, contract.long.value) == ("tagname", "value")
    assert contract.sensor_names == ("FT-101", "PT-102", "TT-103")
    assert contract.sampling.resample == "last"
    assert (contract.quality.column, contract.quality.good) == ("quality", ("Good",))


def test_few_rows_get_the_false_alarm_rate_that_they_support(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", n_rows=100, x=np.random.default_rng(0).normal(size=100))
    plant = init([str(path)], tmp_path / "plant.yml").plant
    assert plant.calibration.false_alarm_rate == pytest.approx(1 / 20, abs=0.001)


def write_hours(path: Path, n_days: int) -> None:
    """A row an hour for so many days."""
    flow = np.random.default_rng(0).normal(50, 2, size=24 * n_days)
    stamps = (START + at * timedelta(hours=1) for at in range(len(flow)))
    lines = [f"{at:%Y-%m-%dT%H:%M:%SZ},{x}" for at, x in zip(stamps, flow, strict=True)]
    path.write_text("\n".join(["time,flow", *lines]) + "\n")


@pytest.mark.parametrize(
    ("n_days", "budget", "why"),
    [
        (
            80,
            "1 alarm per asset per week",
            "per week, which takes 14 days of rows: the part `calibrate` holds 16 days",
        ),
        (20, "1 alarm per asset per day", "`1 alarm per asset per week` takes 14: about 51 more"),
        (5, None, "`1 alarm per asset per day` takes 2: about 6 more days, of data like these"),
    ],
)
def test_budget_is_what_the_rows_support(
    n_days: int, budget: str | None, why: str, tmp_path: Path
) -> None:
    # a fifth of the rows calibrate, and they have to last for two periods of the budget
    write_hours(tmp_path / "a.csv", n_days)
    report = init([str(tmp_path / "a.csv")], tmp_path / "plant.yml")
    found = report.plant.calibration.budget
    assert (found and found.in_words()) == budget
    assert why in re.sub(r"\n *# ", " ", report.text)


def test_so_many_more_days_allow_the_smaller_budget(tmp_path: Path) -> None:
    def days_of(folder: Path, n_days: int) -> tuple[Budget | None, str]:
        folder.mkdir()
        for asset in "ab":
            write_hours(folder / f"{asset}.csv", n_days)
        report = init([str(folder)], folder / "plant.yml")
        return report.plant.calibration.budget, re.sub(r"\n *# ", " ", report.text)

    budget, text = days_of(tmp_path / "few", 20)
    assert budget == Budget(alarms=1, per="day")
    (more,) = re.findall(r"about (\d+) more days of each asset", text)
    assert days_of(tmp_path / "enough", 20 + int(more))[0] == Budget(alarms=1, per="week")
    assert days_of(tmp_path / "hardly", 20 + int(more) - 2)[0] == Budget(alarms=1, per="day")


def test_recordings_that_begin_well_are_calibrated_on_what_is_before_the_faults(
    tmp_path: Path, flow: np.ndarray
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        write_csv(tmp_path / f"in/{name}.csv", flow=flow, anomaly=[0] * 320 + [1] * 280)
    plant = init([str(tmp_path / "in")], tmp_path / "plant.yml").plant
    assert plant.contract.asset is None
    assert plant.parts.test == 0.5


def test_steps_without_times_get_no_budget(tmp_path: Path, flow: np.ndarray) -> None:
    (tmp_path / "a.csv").write_text("\n".join(["flow", *map(str, flow)]) + "\n")
    assert init([str(tmp_path / "a.csv")], tmp_path / "plant.yml").plant.calibration.budget is None


def test_several_files_are_one_glob(tmp_path: Path, flow: np.ndarray) -> None:
    files = [write_csv(tmp_path / f"{name}.csv", flow=flow) for name in "abc"]
    (tmp_path / "notes.txt").write_text("call Jim")
    report = init([str(file) for file in files], tmp_path / "plant.yml")
    assert yaml.safe_load(report.text)["source"]["path"] == "*.csv"
    with pytest.raises(SourceError, match="not all of their kind"):
        init([str(file) for file in files[:2]], tmp_path / "other.yml")


def test_plant_file_is_not_replaced_unasked(tmp_path: Path, flow: np.ndarray) -> None:
    path = write_csv(tmp_path / "a.csv", flow=flow)
    out = tmp_path / "plant.yml"
    out.write_text("mine")
    with pytest.raises(ConfigError, match="--force"):
        init([str(path)], out)
    assert out.read_text() == "mine"
    init([str(path)], out, force=True)
    assert read_plant(out).contract.sensor_names == ("flow",)


@pytest.mark.parametrize("nowhere", ["nowhere.csv", "incoming/", "in*.csv"])
def test_files_that_are_not_there_are_said_before_the_plant_file_that_is(
    nowhere: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plant.yml").write_text("mine")
    with pytest.raises(SourceError, match=r"there is no .*; give the files of your own data"):
        init([nowhere], Path("plant.yml"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"\x00\x01\x02\x03" * 100, "no text"),
        (b"time,flow\n", "no rows"),
        (b"time,name\n2026-01-01,a\n2026-01-02,b\n", "no column holds numbers"),
        (b"time,x,x\n1,2,3\n2,3,4\n", "2 times"),
    ],
)
def test_file_without_a_table_is_said(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=said) as raised:
        init([str(path)], tmp_path / "plant.yml")
    assert "a.csv" in str(raised.value)
    assert not (tmp_path / "plant.yml").exists()


def test_hostile_file_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "Export Süd.csv"
    write_hostile(path, n_moments=8200)
    report = init([str(path)], tmp_path / "plant.yml")
    contract = report.plant.contract
    assert contract.time.zone == "Europe/Berlin"
    notes = " ".join(report.found.notes)
    assert "an hour comes twice behind 2025-10-26 02:30" in notes
    assert "an hour is missing behind 2026-03-29 01:30" in notes
    assert "turns from °C to °F at row 7,80" in notes
    assert "Zaehler" in notes
    assert "Sollwert" in notes
    (bearing,) = (s for s in contract.sensors if s.name == "Lager Temp")
    assert bearing.high is not None
    assert 50 < bearing.high < 100


@pytest.mark.slow
def test_command_writes_prints_and_refuses(tmp_path: Path, flow: np.ndarray) -> None:
    path = write_csv(tmp_path / "a.csv", flow=flow)
    out = tmp_path / "plant.yml"
    shown = command("init", path, "--out", out, "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert yaml.safe_load(shown.stdout)["contract"]["sensors"][0]["name"] == "flow"
    assert not out.exists()
    done = command("init", path, "--out", out, "--name", "line4")
    assert done.returncode == 0, done.stderr
    assert "is written" in " ".join(done.stdout.split())
    assert read_plant(out).name == "line4"
    again = command("init", path, "--out", out)
    assert again.returncode == 1
    assert "--force" in again.stderr


def test_table_names_what_was_found(tmp_path: Path, flow: np.ndarray) -> None:
    report = init([str(write_csv(tmp_path / "a.csv", flow=flow))], tmp_path / "plant.yml")
    table = init_table(report)
    rows = dict(row[:2] for row in table.rows)
    assert rows["rows"] == "600 in 1 file"
    assert rows["period"] == "60 s"
    assert json.dumps(table.markdown())
