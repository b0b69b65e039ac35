"""Killed, doubled, repeated: the lake ends as if nothing had happened. `crash.py` does more."""

from __future__ import annotations

import shutil
from pathlib import Path

import crash
import pytest
from crash import (
    Kill,
    Row,
    finish,
    kill_after,
    kill_at,
    lake_content,
    start,
    write_file,
    write_plant,
)

from vae_anomaly.config import read_plant
from vae_anomaly.steps.ingest import ingest


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Row]]:
    """What an undisturbed ingest leaves in the lake."""
    folder = tmp_path_factory.mktemp("calm")
    report = ingest(read_plant(write_plant(folder)))
    assert report.counts.complete
    assert min(report.counts.n_accepted, report.counts.n_quarantined) > 0
    assert report.counts.n_duplicate > 0
    assert "conflicting" in report.reasons
    return lake_content(folder / "lake/crash")


@pytest.mark.parametrize("step", [*crash.POINTS, "shaping"])
def test_every_named_place_to_kill_at_is_a_function(step: str) -> None:
    """A name that is gone would never kill, and its tests would pass."""
    for point in crash.POINTS.get(step, crash.SHAPING_POINTS):
        owner, name = crash.owner_of(point)
        assert callable(getattr(owner, name)), point


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("point", crash.POINTS["ingest"])
def test_ingest_killed_at_a_named_step(
    point: str, after: bool, ingested: dict[str, list[Row]], tmp_path: Path
) -> None:
    plant = write_plant(tmp_path)
    assert kill_at(plant, "ingest", Kill(point, after, 2))
    assert lake_content(tmp_path / "lake/crash") == ingested


@pytest.mark.slow
def test_ingest_killed_at_random_moments(ingested: dict[str, list[Row]], tmp_path: Path) -> None:
    plant = write_plant(tmp_path)
    for seconds in (0.9, 1.1, 1.3):
        kill_after(plant, "ingest", seconds)
    assert lake_content(tmp_path / "lake/crash") == ingested


@pytest.mark.slow
@pytest.mark.parametrize("n_at_once", [2, 5])
def test_ingests_at_once_land_every_row_once(
    n_at_once: int, ingested: dict[str, list[Row]], tmp_path: Path
) -> None:
    plant = write_plant(tmp_path)
    for process in [start(plant, "ingest") for _ in range(n_at_once)]:
        assert finish(process)
    found = lake_content(tmp_path / "lake/crash")
    for rows in (*found.values(), *ingested.values()):
        for row in rows:  # files take their numbers in the order of their commits
            row.pop("ingest", None)
    assert found == ingested


def test_same_file_twice_adds_nothing(tmp_path: Path) -> None:
    plant = write_plant(tmp_path, n_files=1)
    first = ingest(read_plant(plant))
    before = lake_content(tmp_path / "lake/crash")
    again = ingest(read_plant(plant))
    assert again.counts.n_read == 0
    assert again.with_status("unchanged")
    shutil.copy(tmp_path / "incoming/0.csv", tmp_path / "incoming/copy.csv")
    copied = ingest(read_plant(plant))
    assert [file.status for file in copied.files] == ["unchanged", "repeated"]
    after = lake_content(tmp_path / "lake/crash")
    assert after["readings"] == before["readings"]
    assert len(after["quarantine"]) == first.counts.n_quarantined


def test_growing_file_adds_only_what_is_new(tmp_path: Path) -> None:
    plant = write_plant(tmp_path, n_files=1)
    file = tmp_path / "incoming/0.csv"
    whole = file.read_text().splitlines(keepends=True)
    file.write_text("".join(whole[:100]))
    first = ingest(read_plant(plant)).counts
    file.write_text("".join(whole))
    second = ingest(read_plant(plant)).counts
    assert first.n_read == 99
    assert second.n_read == len(whole) - 1
    assert second.n_duplicate >= first.n_accepted
    straight = write_plant(tmp_path / "straight", n_files=1)
    expected = ingest(read_plant(straight)).counts
    assert first.n_accepted + second.n_accepted == expected.n_accepted


def test_same_keys_with_other_values_are_quarantined_and_the_first_stays(tmp_path: Path) -> None:
    plant = write_plant(tmp_path, n_files=1)
    ingest(read_plant(plant))
    before = lake_content(tmp_path / "lake/crash")["readings"]
    write_file(tmp_path / "incoming/other.csv", 0, n_rows=400, seed=99)
    report = ingest(read_plant(plant))
    assert report.counts.n_accepted == 0
    assert report.reasons["conflicting"] > 390
    assert lake_content(tmp_path / "lake/crash")["readings"] == before


def test_mended_contract_lets_quarantined_rows_in(tmp_path: Path) -> None:
    plant = write_plant(tmp_path, n_files=1)
    first = ingest(read_plant(plant))
    assert first.reasons["below_range"] > 0
    plant.write_text(plant.read_text().replace("low: -50", "low: -100"))
    second = ingest(read_plant(plant))
    assert second.counts.n_accepted == first.reasons["below_range"]
    assert "below_range" not in second.reasons
    assert second.counts.n_duplicate >= first.counts.n_accepted


def test_unreadable_file_is_quarantined_and_the_others_go_on(tmp_path: Path) -> None:
    plant = write_plant(tmp_path, n_files=2)
    (tmp_path / "incoming/0a.csv").write_text("pump,volume\n1,2\n")
    (tmp_path / "incoming/0b.csv").write_bytes(b"")
    report = ingest(read_plant(plant))
    status = {Path(file.path).name: file.status for file in report.files}
    assert status["0a.csv"] == status["0b.csv"] == "quarantined"
    assert status["0.csv"] == status["1.csv"] == "ingested"
    reason = next(f.reason for f in report.files if f.path.endswith("0a.csv"))
    assert reason is not None
    assert "'time' is missing" in reason
    assert ingest(read_plant(plant)).with_status("unchanged") == tuple(
        type(file)(file.path, "unchanged", reason=file.reason) for file in report.files
    )
