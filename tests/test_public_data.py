"""The main job on real recordings, where they lie (`VAE_ANOMALY_DATA`, default ../shared/data)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from crash import finish, lake_content, run_all, start
from sklearn.metrics import roc_auc_score

from vae_anomaly import ModelPackage
from vae_anomaly.config import PlantConfig, read_plant
from vae_anomaly.data.lake import FILES, READINGS, VERDICTS, Lake, rows
from vae_anomaly.steps.score import score
from vae_anomaly.steps.train import latest_trained, train

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("VAE_ANOMALY_DATA", ROOT / "../shared/data"))

pytestmark = pytest.mark.slow


def needs(folder: str) -> Path:
    if not (DATA / folder).is_dir():
        pytest.skip(f"{folder} is not under VAE_ANOMALY_DATA ({DATA})")
    return DATA / folder


def plant_in(folder: Path, name: str, source: Path) -> Path:
    """A copy of a public plant file, with its lake in a folder of the test's own."""
    text = (ROOT / f"data/plants/{name}.yml").read_text()
    text = text.replace(f"path: ../../lake/{name}/incoming", f'path: "{source.resolve()}"')
    path = folder / f"{name}.yml"
    path.write_text(text.replace(f"lake: ../../lake/{name}", "lake: lake/crash"))
    return path


def table_of(plant: PlantConfig, name: str) -> pa.Table:
    return pa.Table.from_batches(list(rows(Lake(plant.lake, plant.contract).open(name))))


def test_skab_runs_once_and_only_once(tmp_path: Path) -> None:
    path = plant_in(tmp_path, "skab", needs("skab/data/valve1"))
    plant = read_plant(path)
    run_all(plant)
    files = table_of(plant, FILES)
    read, accepted, quarantined, duplicate = (
        sum(files[f"n_{name}"].to_pylist())
        for name in ("read", "accepted", "quarantined", "duplicate")
    )
    assert read == accepted + quarantined + duplicate == 18_160
    assert accepted == table_of(plant, READINGS).num_rows
    verdicts = table_of(plant, VERDICTS)
    keys = set(zip(verdicts["asset"].to_pylist(), verdicts["time"].to_pylist(), strict=True))
    assert verdicts.num_rows == len(keys) == accepted
    assert set(ModelPackage.read(latest_trained(plant) / "package").units) == {
        str(number) for number in range(16)
    }

    before = lake_content(plant.lake)
    run_all(plant)
    assert train(plant).registered == "1"
    assert score(plant).n_rows == 0
    for process in [start(path, "score") for _ in range(2)]:
        assert finish(process)
    assert lake_content(plant.lake) == before


def test_tennessee_eastman_runs_on_its_listed_parts(tmp_path: Path) -> None:
    convert = ROOT / "data/plants/tep_convert.py"
    incoming = tmp_path / "incoming"
    subprocess.run([sys.executable, convert, needs("tep"), incoming], check=True)
    plant = read_plant(plant_in(tmp_path, "tep", incoming))
    run_all(plant)
    readings = table_of(plant, READINGS)
    assert readings.num_rows == 500 + 22 * 960
    assert readings.filter(pc.field("asset") == "d05_te")["label"].to_pylist() == (
        [0] * 160 + [5] * 800
    )
    verdicts = table_of(plant, VERDICTS)
    assert set(verdicts["status"].to_pylist()) == {"normal", "anomaly"}
    # faults 1, 2 and 6 move far from anything normal: no detector misses them
    for fault in ("d01_te", "d02_te", "d06_te"):
        own = verdicts.filter(pc.field("asset") == fault).sort_by("time")
        found = own["status"].to_pylist()[160:]
        assert found.count("anomaly") > 0.95 * len(found), fault


def test_milling_machine_is_judged_with_its_type_as_a_text(tmp_path: Path) -> None:
    source = needs("ai4i2020") / "ai4i2020.csv"
    plant = read_plant(plant_in(tmp_path, "ai4i", source))
    run_all(plant)
    readings = table_of(plant, READINGS).sort_by("time")
    assert readings.num_rows == 10_000
    assert set(readings["Type"].to_pylist()) == {"L", "M", "H"}
    verdicts = table_of(plant, VERDICTS).sort_by("time").to_pylist()
    test = slice(8000, 10_000)
    label, score_of = readings["label"].to_pylist()[test], [v["score"] for v in verdicts[test]]
    assert roc_auc_score(label, score_of) > 0.7
    named = [v for v in verdicts if v["top_sensors"] and "Type" in v["top_sensors"]]
    assert named  # an H has a tenth of the rows, so it often adds the third most
    for verdict in named:
        at = verdict["top_sensors"].index("Type")
        level = "LMH"[int(verdict["top_expected"][at])]
        assert verdict["top_directions"][at] in ("as expected", f"not {level}")
    package = ModelPackage.read(latest_trained(plant) / "package")
    assert package.units["*"].scorer.levels == (3, 0, 0, 0)


def test_converter_says_what_is_missing(tmp_path: Path) -> None:
    convert = ROOT / "data/plants/tep_convert.py"
    done = subprocess.run(
        [sys.executable, convert, tmp_path, tmp_path / "out"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "does not hold d00.dat" in done.stderr
