"""Exclusions: rows that belong to no part, and are scored as usual."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from crash import run_all, write_plant
from hypothesis import given
from hypothesis import strategies as st

from vae_anomaly import ModelPackage
from vae_anomaly.config import Exclusion, PlantConfig, read_plant
from vae_anomaly.data.exclusions import Excluded, read_exclusions, without
from vae_anomaly.data.lake import ALARMS, VERDICTS, Lake, rows
from vae_anomaly.data.parts import Interval
from vae_anomaly.errors import ConfigError, PartsError
from vae_anomaly.steps.ingest import ingest
from vae_anomaly.steps.train import latest_trained, plant_settings, read_trained, train

spans = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 15), st.sampled_from("ab*")))


@given(times=st.lists(st.integers(0, 60), min_size=1, unique=True).map(sorted), excluded=spans)
def test_what_is_left_equals_a_loop(times: list[int], excluded: list[tuple[int, int, str]]) -> None:
    whole = Interval("train", "a", times[0], times[0], times[-1], len(times))
    entries = [Excluded(start, start + length, (who,)) for start, length, who in excluded]
    kept, lost = without([whole], entries, {"a": np.array(times)})
    inside = [t for t in times if any(i.start <= t <= i.end for i in kept)]
    expected = [
        t for t in times if not any(s <= t < s + n and who in "a*" for s, n, who in excluded)
    ]
    assert inside == expected
    assert sum(i.n_rows for i in kept) == len(expected)
    assert lost.get("train", 0) == len(times) - len(expected)


def table(folder: Path, text: str) -> tuple[Exclusion, ...]:
    path = folder / "stops.csv"
    path.write_text(text)
    return (Exclusion(path=str(path), reason="service"),)


def test_a_table_is_read_in_the_plant_s_zone_unless_it_says_another(tmp_path: Path) -> None:
    text = (
        "start,end,asset,reason\n"
        "2026-03-01T01:00:00,2026-03-01T02:00:00,a,\n"
        "2026-03-01T01:00:00Z,2026-03-01T02:00:00Z,,leak\n"
    )
    local, utc = read_exclusions(table(tmp_path, text), "Europe/Berlin")
    assert utc.start - local.start == 3600 * 10**6
    assert (local.assets, local.reason) == (("a",), "service")
    assert (utc.assets, utc.reason) == (("*",), "leak")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("start,end\n2026-03-01,2026-03-02\nsoon,2026-03-02\n", "row 2: 'soon' is not a time"),
        ("start,end\n2026-03-02,2026-03-01\n", "row 1: start 2026-03-02 is not before end"),
        ("begin,end\n1,2\n", "column 'start' is missing"),
    ],
)
def test_a_bad_row_is_refused_by_its_number(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_exclusions(table(tmp_path, text), "UTC")


def with_exclusions(folder: Path, text: str) -> PlantConfig:
    plant = write_plant(folder)
    plant.write_text(plant.read_text() + "exclusions: [{path: stops.csv}]\n")
    (folder / "stops.csv").write_text(text)
    return read_plant(plant)


def test_excluded_rows_train_nothing_and_are_scored(tmp_path: Path) -> None:
    text = "start,end,asset\n2026-03-01T00:01:00Z,2026-03-01T00:02:00Z,a\n"
    plant = with_exclusions(tmp_path, text)
    run_all(plant)
    trained = read_trained(latest_trained(plant))
    n_out = trained.excluded["train"]
    assert 40 <= n_out <= 60
    package = ModelPackage.read(latest_trained(plant) / "package")
    assert f"part 'train': {n_out} rows are left out by exclusions" in package.provenance.notes
    found = [r for b in rows(Lake(plant.lake, plant.contract).open(VERDICTS))
             for r in b.to_pylist()]  # fmt: skip
    inside = [r for r in found if r["asset"] == "a" and r["time"].minute == 1]
    assert len(inside) == n_out
    assert all(r["status"] in ("normal", "anomaly") for r in inside)


def test_maintenance_trains_nothing_and_raises_nothing(tmp_path: Path) -> None:
    path = write_plant(tmp_path)
    window = "{start: 2026-03-01T00:01:00Z, end: 2026-03-01T00:02:00Z, assets: [a]}"
    path.write_text(path.read_text() + f"alarms: {{maintenance: [{window}]}}\n")
    plant = read_plant(path)
    run_all(plant)
    assert 40 <= read_trained(latest_trained(plant)).excluded["train"] <= 60
    table = Lake(plant.lake, plant.contract).open(ALARMS)
    alarms = [row for batch in rows(table) for row in batch.to_pylist()]
    assert any(row["asset"] == "a" for row in alarms)
    assert not any(row["asset"] == "a" and row["raised"].minute == 1 for row in alarms)


def test_another_table_is_another_training_and_too_much_of_it_is_said(tmp_path: Path) -> None:
    plant = with_exclusions(tmp_path, "start,end\n2026-03-01T00:01:00Z,2026-03-01T00:02:00Z\n")
    before = plant_settings(plant)
    (tmp_path / "stops.csv").write_text("start,end\n2026-03-01T00:00:00Z,2026-03-02T00:00:00Z\n")
    assert plant_settings(plant) != before
    ingest(plant)
    with pytest.raises(PartsError, match="rows are left out by exclusions"):
        train(plant)
