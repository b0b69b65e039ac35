"""`check` tells what an ingest refuses, row for row, and writes nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from crash import write_plant
from test_cli import command

from vae_anomaly.config import read_plant
from vae_anomaly.steps.check import check, check_table
from vae_anomaly.steps.ingest import ingest


def test_check_counts_what_an_ingest_does(tmp_path: Path) -> None:
    plant = read_plant(write_plant(tmp_path, n_files=3))
    before = sorted(tmp_path.rglob("*"))
    report = check(plant)
    assert sorted(tmp_path.rglob("*")) == before
    done = ingest(plant)
    assert [file.path for file in report.files] == [file.path for file in done.files]
    assert [
        (f.n_read, f.n_accepted - f.n_repeated - f.n_conflicting, f.n_refused + f.n_conflicting)
        for f in report.files
    ] == [(f.counts.n_read, f.counts.n_accepted, f.counts.n_quarantined) for f in done.files]
    assert [f.n_repeated for f in report.files] == [f.counts.n_duplicate for f in done.files]
    reasons: Counter[str] = Counter()
    for file in report.files:
        reasons.update({reason: refused.n_rows for reason, refused in file.refused.items()})
        reasons["conflicting"] += file.n_conflicting
    assert dict(reasons) == dict(done.reasons)
    assert not report.is_clean


def test_values_of_a_long_table_are_told_by_their_tag(tmp_path: Path) -> None:
    source = tmp_path / "long.csv"
    rows = ["2026-01-01T00:00:00Z,a,1", "2026-01-01T00:00:00Z,b,1", "2026-01-01T00:00:00Z,b,2"]
    source.write_text("time,tag,value\n" + "\n".join([*rows, rows[0]]) + "\n")
    (tmp_path / "plant.yml").write_text(
        "name: long\nsource: {path: long.csv, settle_s: 0}\n"
        "contract: {time: time, long: {tag: tag, value: value}, sensors: [a, b]}\n"
    )
    plant = read_plant(tmp_path / "plant.yml")
    (file,) = check(plant).files
    assert (file.n_accepted, file.n_repeated, file.n_conflicting) == (4, 1, 1)
    counts = ingest(plant).counts
    assert (counts.n_accepted, counts.n_duplicate, counts.n_quarantined) == (2, 1, 1)


def test_each_reason_has_an_example(tmp_path: Path) -> None:
    plant = read_plant(write_plant(tmp_path, n_files=1))
    report = check(plant)
    first = report.files[0].refused["below_range"]
    lines = Path(report.files[0].path).read_text().splitlines()
    assert "-99" in lines[first.row]
    notes = " ".join(check_table(report).notes)
    assert f"row {first.row}" in notes
    assert "-99" in notes


def test_rows_are_held_against_earlier_files(tmp_path: Path) -> None:
    plant = write_plant(tmp_path, n_files=1)
    first = tmp_path / "incoming/0.csv"
    lines = first.read_text().splitlines()[:9]
    first.write_text("\n".join(lines) + "\n")
    changed = lines[3].rpartition(",")[0] + ",0.123"
    (tmp_path / "incoming/1.csv").write_text("\n".join([*lines[:3], changed]) + "\n")
    own, other = check(read_plant(plant)).files
    assert own.n_repeated + own.n_conflicting <= 2
    assert (other.n_read, other.n_repeated, other.n_conflicting) == (3, 2, 1)


@pytest.mark.slow
def test_command_exits_with_1_if_a_row_is_refused(tmp_path: Path) -> None:
    plant = write_plant(tmp_path, n_files=1)
    bad = command("check", plant)
    assert bad.returncode == 1
    assert "below_range" in bad.stdout
    assert not (tmp_path / "lake").exists()
    good = tmp_path / "good.csv"
    good.write_text("time,asset,flow,pressure,power\n2026-01-01T00:00:00Z,a,1,2,3\n")
    clean = command("check", plant, "--source", good)
    assert clean.returncode == 0, clean.stderr
    assert "Nothing was written" in " ".join(clean.stdout.split())


@pytest.mark.slow
def test_missing_column_is_named_with_the_closest(tmp_path: Path) -> None:
    plant = write_plant(tmp_path, n_files=1)
    other = tmp_path / "other.csv"
    other.write_text("time,asset,flow,presure,power\n2026-01-01T00:00:00Z,a,1,2,3\n")
    done = command("check", plant, "--source", other)
    assert done.returncode == 1
    assert "'pressure' is missing; the file has 'presure'" in " ".join(done.stdout.split())
