"""The data page says of the lake what counting its files by hand says."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from vae_anomaly.cli import main
from vae_anomaly.config import PlantConfig, read_plant
from vae_anomaly.data.quality import Cell
from vae_anomaly.errors import LakeError
from vae_anomaly.steps.ingest import ingest
from vae_anomaly.steps.survey import MOST_BINS, survey
from vae_anomaly.steps.survey_page import survey_tables, write_survey

START = datetime(2026, 3, 1, 10, 30, tzinfo=UTC)

PLANT = """
name: pumps
source: {path: incoming, settle_s: 0}
contract:
  time: time
  asset: pump
  quality: {column: code}
  sensors: [{name: flow, high: 100}, power]
"""


def write_plant(folder: Path, lines: list[str]) -> PlantConfig:
    (folder / "incoming").mkdir(exist_ok=True)
    (folder / "plant.yml").write_text(PLANT)
    text = "\n".join(["time,pump,flow,power,code", *lines])
    (folder / "incoming/a.csv").write_text(f"{text}\n")
    return read_plant(folder / "plant.yml")


def row(minutes: float, pump: str, flow: str, power: str, code: str = "Good") -> str:
    return f"{START + timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%SZ},{pump},{flow},{power},{code}"


@pytest.fixture
def plant(tmp_path: Path) -> PlantConfig:
    lines = [row(10 * i, "a", "1.5", "Bad" if i % 4 == 0 else "2") for i in range(30)]
    lines += [row(10 * i, "b", "" if i < 3 else "7", "3") for i in range(6)]
    lines += [row(600, "b", "1", "2"), row(590, "b", "1", "2"), row(610, "b", "1", "2", "Bad")]
    lines += [row(700, "b", "900", "1"), row(701, "b", "x", "1"), row(701, "b", "901", "1")]
    plant = write_plant(tmp_path, lines)
    counts = ingest(plant).counts
    assert (counts.n_accepted, counts.n_quarantined) == (39, 3)
    return plant


def test_every_cell_and_row_is_on_the_page(plant: PlantConfig) -> None:
    found = survey(plant)
    assert found.cells.total() == 2 * 42
    assert found.states("flow") == {
        "value": 30 + 3 + 2, "empty": 3, "text": 0, "quality": 1, "refused": 3,
    }  # fmt: skip
    assert found.cells[Cell("power", "text", "Bad")] == 8
    assert found.texts("flow") == Counter({"above_range": 2, "not_a_number": 1, "Bad": 1})
    assert found.n_missing == {"flow": 3 + 1, "power": 8 + 1}
    assert {r.reason: (r.n_rows, r.row) for r in found.refused} == {
        "above_range": (2, 40), "not_a_number": (1, 41),
    }  # fmt: skip
    assert found.files == {"ingested": 1}
    ((path, disorder),) = found.disorder.items()
    assert path.endswith("a.csv")
    assert disorder == (1, 600.0)


def test_rows_are_counted_by_the_hour(plant: PlantConfig) -> None:
    found = survey(plant)
    a, b = found.assets
    assert found.start == datetime(2026, 3, 1, 10, tzinfo=UTC)
    assert a.per_bin.tolist() == [3, 6, 6, 6, 6, 3] + [0] * 5
    assert b.per_bin.tolist() == [3, 3] + [0] * 8 + [3]
    assert (a.first, b.last) == (START, START + timedelta(minutes=610))
    assert found.n_rows == 39
    rows_table, cells_table, quarantine_table = survey_tables(found)
    assert ("b", "9", "2026-03-01 10:30", "2026-03-01 20:40", "3", "8") in rows_table.rows
    assert rows_table.rows[0][0] == "b"  # the one with most time without comes first
    assert cells_table.rows[0][:2] == ("power", "23.1%")
    assert "900" in quarantine_table.rows[0][2]


def test_years_are_counted_in_longer_bins(tmp_path: Path) -> None:
    plant = write_plant(tmp_path, [row(60 * 24 * 30 * i, "a", "1", "2") for i in range(200)])
    ingest(plant, now=START + timedelta(days=200 * 30))
    found = survey(plant)
    assert found.assets[0].per_bin.sum() == 200
    assert len(found.assets[0].per_bin) <= MOST_BINS + 1
    assert found.bin_hours == int(np.ceil(199 * 720.5 / MOST_BINS))


def test_page_is_written_and_printed(
    plant: PlantConfig, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    written = write_survey(survey(plant), tmp_path / "page")
    assert sorted(p.name for p in written.iterdir()) == [
        "cells.png",
        "data.md",
        "rows_per_hour.png",
    ]
    assert "above_range" in (written / "data.md").read_text()
    again = tmp_path / "again"
    assert main(["survey", str(tmp_path / "plant.yml"), "--pictures", str(again)]) == 0
    said = capsys.readouterr().out
    assert "39 readings" in said
    assert "84 cells read" in said
    assert (again / "data.md").read_bytes() == (written / "data.md").read_bytes()


def test_ingest_names_what_stood_for_no_value(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    lines = [row(2, "a", "--", "--"), row(1, "a", "Bad", "--"), row(3, "a", "1", "2", "")]
    write_plant(tmp_path, lines)
    assert main(["ingest", str(tmp_path / "plant.yml")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "no value: -- 3 in 2 sensors, Bad 1 in 1 sensor" in said
    assert "bad quality: no code 2 in 2 sensors" in said
    assert "a.csv: 1 out of order; the largest step back in time is 60 s, at row 2" in said


def test_nothing_ingested_is_said(tmp_path: Path) -> None:
    plant = write_plant(tmp_path, [])
    with pytest.raises(LakeError, match="run `vae-anomaly ingest`"):
        survey(plant)


def test_lake_without_a_row_has_a_page(tmp_path: Path) -> None:
    plant = write_plant(tmp_path, [row(1, "a", "x", "1")])
    ingest(plant)
    found = survey(plant)
    assert found.n_rows == 0
    page = (write_survey(found, tmp_path / "page") / "data.md").read_text()
    assert "not_a_number" in page
    assert "have a value in every row" not in page


def test_file_that_is_not_read_is_named_with_the_reason(tmp_path: Path) -> None:
    plant = write_plant(tmp_path, [row(1, "a", "1", "1")])
    text = (tmp_path / "incoming/a.csv").read_text()
    (tmp_path / "incoming/b.csv").write_text(text.replace("power", "pwer"))
    ingest(plant)
    table = survey_tables(survey(plant))[-1]
    assert table.summary == "0 rows, and 1 file."
    assert table.notes[0].startswith("b.csv (quarantined): column 'power' is missing")


def test_file_that_was_mended_is_not_named_any_more(tmp_path: Path) -> None:
    plant = write_plant(tmp_path, [row(1, "a", "1", "1")])
    file = tmp_path / "incoming/b.csv"
    text = (tmp_path / "incoming/a.csv").read_text()
    file.write_text(text.replace("power", "pwer"))
    ingest(plant)
    assert list(survey(plant).unread) == [str(file)]
    file.write_text(text)
    ingest(plant)
    assert not survey(plant).unread
