"""Which verdicts a threshold is set on anew, and which false alarms and events are among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sealed import CONTRACT, seal
from test_alarm_steps import BEGIN, MINUTE

from vae_anomaly.config import Alarms, Exclusion, PlantConfig, Source
from vae_anomaly.data.lake import PARTS, READINGS, VERDICTS, Lake, commit
from vae_anomaly.decisions.recalibration import Marked, Span
from vae_anomaly.package import ModelPackage
from vae_anomaly.package_file import read_package_file, weights_digest
from vae_anomaly.steps.feedback import read_feedback
from vae_anomaly.steps.marked import marked_rows
from vae_anomaly.steps.said import Said, Verdict, append

#: Rows of each asset, one a minute; the weights have seen all of the first hundred but thirty.
N_ROWS = 200
FIRST = round(BEGIN.timestamp() * 1e6)


def at(row: int) -> int:
    return FIRST + row * 60 * 10**6


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return seal(tmp_path_factory.mktemp("sealed") / "package")


def plant_with(folder: Path, package: ModelPackage) -> PlantConfig:
    """Verdicts of two assets, ones by another package and late ones among them."""
    window = Exclusion(start=BEGIN + 120 * MINUTE, end=BEGIN + 130 * MINUTE, assets=("a",))
    plant = PlantConfig(
        name="p", lake=str(folder / "lake"), source=Source(path="in"), contract=CONTRACT,
        alarms=Alarms(maintenance=(window,)),
    )  # fmt: skip
    lake = Lake(plant.lake, plant.contract)

    def verdict(asset: str, row: int) -> dict[str, object]:
        return {
            "line": "champion", "asset": asset, "time": BEGIN + row * MINUTE, "score": float(row),
            "status": "off" if row == 110 else "normal", "late": row == 112,
            "package_digest": "other" if row == 111 else package.digest,
        }  # fmt: skip

    verdicts = [verdict(asset, row) for asset in "ba" for row in range(N_ROWS)]
    labelled = [{"asset": "a", "time": BEGIN + 190 * MINUTE, "label": 3, "ingest": 1}]
    parts = [
        {
            "fingerprint": package.provenance.fingerprint, "part": part, "asset": asset,
            "start": BEGIN + first * MINUTE, "end": BEGIN + last * MINUTE,
        }
        for asset in "ab"
        for part, first, last in (("train", 0, 49), ("calibrate", 50, 79), ("test", 80, 99))
    ]  # fmt: skip
    for name, entries in ((VERDICTS, verdicts), (READINGS, labelled), (PARTS, parts)):
        data = pa.Table.from_pylist(entries, schema=lake.schema(name))
        assert commit(lake.writable(name), data, {"made": 1})
    return plant


def marked(plant: PlantConfig, package: ModelPackage, *said: tuple[Verdict, int, int]) -> Marked:
    """Rows of asset a, with what was said of rows of it."""
    lake = Lake(plant.lake, plant.contract)
    append(
        lake, lambda _: [Said("a", at(first), at(last), verdict) for verdict, first, last in said]
    )
    feedback = read_feedback(lake, numbered=False)
    found = marked_rows(plant, lake, package, {package.digest}, feedback)
    assert list(found) == ["*"]
    assert len(found["*"]) == 2
    return found["*"][0]


def test_only_fresh_rows_that_are_well_are_normal(package: ModelPackage, tmp_path: Path) -> None:
    plant = plant_with(tmp_path, package)
    said: list[tuple[Verdict, int, int]] = [
        ("fault", 140, 144), ("unknown", 150, 154), ("maintenance", 160, 164),
        ("false_alarm", 170, 174),
    ]  # fmt: skip
    found = marked(plant, package, *said)
    rows = (found.history.time - FIRST) // (60 * 10**6)
    assert set(range(N_ROWS)) - set(rows.tolist()) == {111, 112}
    np.testing.assert_array_equal(found.history.score, rows)
    assert sorted(set(rows.tolist()) - set(rows[found.judged].tolist())) == [110, *range(120, 130)]
    reach = package.units["*"].scorer.left_context
    doubtful = {*range(140, 145), *range(150, 155), *range(160, 165), 190}
    after = {row + step for row in doubtful for step in range(reach + 1)}
    fresh = {*range(50, 80), *range(100, N_ROWS)} - {110, 111, 112, *range(120, 130)}
    assert set(rows[found.history.is_normal].tolist()) == fresh - after


def test_events_that_touch_are_one_and_seen_false_alarms_do_not_count(
    package: ModelPackage, tmp_path: Path
) -> None:
    found = marked(
        plant_with(tmp_path, package), package, ("fault", 10, 12), ("fault", 140, 144),
        ("fault", 143, 150), ("false_alarm", 20, 22), ("false_alarm", 98, 101),
        ("false_alarm", 148, 149),
    )  # fmt: skip
    assert found.false_alarms == (Span(at(98), at(101) + 1), Span(at(148), at(149) + 1))
    assert found.events == (
        Span(at(10), at(12) + 1), Span(at(140), at(148)), Span(at(149) + 1, at(150) + 1),
    )  # fmt: skip


def test_packages_of_the_same_weights_are_known_by_them(
    package: ModelPackage, tmp_path: Path
) -> None:
    digests = set()
    for name, fingerprint in (("a", "a" * 64), ("b", "b" * 64)):
        seal(tmp_path / name, fingerprint=fingerprint)
        digests.add(weights_digest(read_package_file(tmp_path / name)))
    seal(tmp_path / "c", temporal=True)
    other = weights_digest(read_package_file(tmp_path / "c"))
    assert len(digests) == 1
    assert other not in digests
