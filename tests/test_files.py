"""Files that grow, rotate, restart: what an ingest takes, and what it leaves for the next."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from vae_anomaly.config import PlantConfig, Source, read_plant
from vae_anomaly.data.data_files import COMPACT_EVERY
from vae_anomaly.data.lake import FILES, QUARANTINE, READINGS, Lake, rows
from vae_anomaly.data.sources import SOURCES, asset_stem, list_files, still_growing
from vae_anomaly.data.sources.files import ENDINGS
from vae_anomaly.data.sources.packed import PACKED_ENDINGS
from vae_anomaly.steps.file_records import IngestReport
from vae_anomaly.steps.ingest import ingest
from vae_anomaly.steps.ingest_page import ingest_table


def plant_in(folder: Path, *, settle_s: float = 0.0) -> PlantConfig:
    (folder / "in").mkdir(exist_ok=True)
    (folder / "plant.yml").write_text(
        "name: growing\n"
        f"source: {{path: in, settle_s: {settle_s}}}\n"
        "contract: {time: time, asset: asset, sensors: [flow]}\n"
    )
    return read_plant(folder / "plant.yml")


def lines(first: int, last: int) -> str:
    return "".join(
        f"2026-03-09T10:{i // 60:02}:{i % 60:02}Z,a,{i}.25\n" for i in range(first, last)
    )


def content(plant: PlantConfig, table: str) -> list[dict[str, object]]:
    lake = Lake(plant.lake, plant.contract)
    return [row for batch in rows(lake.open(table)) for row in batch.to_pylist()]


def counts(report: IngestReport) -> tuple[int, int, int]:
    c = report.counts
    assert c.complete
    return c.n_accepted, c.n_quarantined, c.n_duplicate


# -------------------------------------------------------------------------------- names of files


def test_every_ending_has_a_reader() -> None:
    assert set(ENDINGS.values()) == set(SOURCES) - {"delta"}


def test_stem_drops_every_known_ending_and_no_other() -> None:
    for ending, kind in ENDINGS.items():
        assert asset_stem(f"/data/pump.7{ending.upper()}") == "pump.7"
        for packed in PACKED_ENDINGS:
            whole = f"pump{ending}{packed}"
            assert asset_stem(whole) == ("pump" if kind == "csv" else whole)
    assert asset_stem("pump.v2") == "pump.v2"
    assert asset_stem("s3://plant/line 1.csv") == "line 1"


# -------------------------------------------------------------------------------- settling


def test_file_that_changes_while_it_is_watched_is_left_for_the_next_ingest(tmp_path: Path) -> None:
    plant = plant_in(tmp_path, settle_s=1.0)
    path = tmp_path / "in/a.csv"
    path.write_text("time,asset,flow\n" + lines(0, 5))
    (tmp_path / "in/b.csv").write_text("time,asset,flow\n" + lines(100, 105))

    def append() -> None:
        with path.open("a") as stream:
            stream.write(lines(5, 8))

    timer = threading.Timer(0.3, append)
    timer.start()
    report = ingest(plant)
    timer.join()
    assert {Path(f.path).name: f.status for f in report.files} == {
        "a.csv": "growing",
        "b.csv": "ingested",
    }
    assert [Path(str(row["path"])).name for row in content(plant, FILES)] == ["b.csv"]
    table = ingest_table(report)
    assert "from 1 of 2 files (1 growing)" in table.summary
    assert any(note.startswith("a.csv (growing): it is still") for note in table.notes)
    time.sleep(1.0)
    assert counts(ingest(plant)) == (8, 0, 0)


def test_watching_takes_at_most_settle_s_whatever_the_clocks_say(tmp_path: Path) -> None:
    source = Source(path=str(tmp_path), settle_s=0.4)
    for name, age in (("old", 100), ("new", 0), ("future", -86_400)):
        path = tmp_path / f"{name}.csv"
        path.write_text("time\n")
        os.utime(path, (time.time() - age,) * 2)
    for files, at_most in ((list_files(source), 0.4), (list_files(source)[2:], 0.0)):
        began = time.monotonic()
        assert not still_growing(files, source)
        assert time.monotonic() - began < at_most + 0.15
    (old,) = [f for f in list_files(source) if f.path.endswith("old.csv")]
    began = time.monotonic()
    assert not still_growing([old], source)
    assert time.monotonic() - began < 0.1


def test_file_that_goes_while_it_is_watched_is_left(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("time\n")
    source = Source(path=str(tmp_path), settle_s=0.2)
    files = list_files(source)
    (tmp_path / "a.csv").unlink()
    assert still_growing(files, source) == {files[0].path}


# -------------------------------------------------------------- growing, rotated, restarted


def test_grown_file_gives_its_new_rows_and_the_old_are_duplicates(tmp_path: Path) -> None:
    plant, path = plant_in(tmp_path), tmp_path / "in/a.csv"
    path.write_text("time,asset,flow\n" + lines(0, 5))
    assert counts(ingest(plant)) == (5, 0, 0)
    with path.open("a") as stream:
        stream.write(lines(5, 8))
    assert counts(ingest(plant)) == (3, 0, 5)
    assert sorted(row["flow"] for row in content(plant, READINGS)) == [i + 0.25 for i in range(8)]


@pytest.mark.parametrize(
    ("n_cut", "first", "second"),
    [
        (7, (4, 1, 0), (4, 0, 4)),  # "…,a" lacks a cell: refused, then whole
        (2, (5, 0, 0), (3, 1, 4)),  # "4.2" is a number: the whole line then contradicts it
    ],
)
def test_line_that_was_cut_in_half_is_why_files_must_settle(
    n_cut: int, first: tuple[int, int, int], second: tuple[int, int, int], tmp_path: Path
) -> None:
    plant, path = plant_in(tmp_path), tmp_path / "in/a.csv"
    path.write_text(("time,asset,flow\n" + lines(0, 5))[:-n_cut])
    assert counts(ingest(plant)) == first
    path.write_text("time,asset,flow\n" + lines(0, 8))
    assert counts(ingest(plant)) == second
    assert {row["reason"] for row in content(plant, QUARANTINE)} == (
        {"broken_line"} if n_cut == 7 else {"conflicting"}
    )


def test_rotated_file_is_repeated_and_its_successor_is_read(tmp_path: Path) -> None:
    plant, path = plant_in(tmp_path), tmp_path / "in/a.csv"
    path.write_text("time,asset,flow\n" + lines(0, 5))
    ingest(plant)
    path.rename(tmp_path / "in/a.1.csv")
    path.write_text("time,asset,flow\n" + lines(5, 7))
    report = ingest(plant)
    assert {Path(f.path).name: f.status for f in report.files} == {
        "a.1.csv": "repeated",
        "a.csv": "ingested",
    }
    assert counts(report) == (2, 0, 0)


def test_file_that_was_truncated_and_begun_anew_is_read(tmp_path: Path) -> None:
    plant, path = plant_in(tmp_path), tmp_path / "in/a.csv"
    path.write_text("time,asset,flow\n" + lines(0, 5))
    ingest(plant)
    path.write_text("time,asset,flow\n" + lines(7, 9))
    assert counts(ingest(plant)) == (2, 0, 0)


@pytest.mark.slow
def test_hundreds_of_small_files_land_in_one_ingest(tmp_path: Path) -> None:
    plant = plant_in(tmp_path)
    for i in range(300):
        (tmp_path / f"in/{i:03}.csv").write_text("time,asset,flow\n" + lines(i * 3, i * 3 + 3))
    began = time.process_time()
    assert counts(ingest(plant)) == (900, 0, 0)
    cpu_s = time.process_time() - began
    print(f"{1000 * cpu_s / 300:.0f} ms of CPU a file")
    lake = Lake(plant.lake, plant.contract)
    for name in (READINGS, FILES):
        assert 0 <= lake.open(name).version() - 300 <= 300 // COMPACT_EVERY, "a commit a file"
    assert cpu_s / 300 < 1
