"""The commands for what one does with a model beside judging, on the demo's plant."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.datasets import load_digits
from test_cli import command
from test_pictures import check_picture

from vae_anomaly import ModelPackage, latent
from vae_anomaly.config import PlantConfig, Training, read_plant
from vae_anomaly.data.lake import READINGS, Lake, rows
from vae_anomaly.data.windows import Matrix
from vae_anomaly.demo import prepare
from vae_anomaly.errors import InputError, RegistryError
from vae_anomaly.latent.windows import raw_windows
from vae_anomaly.models.standardize import Series
from vae_anomaly.models.variants import variant_of
from vae_anomaly.scoring.fitting import fit_scorer
from vae_anomaly.steps import train as train_step
from vae_anomaly.steps.augment import augment
from vae_anomaly.steps.calibrate import calibrate
from vae_anomaly.steps.chosen import chosen
from vae_anomaly.steps.embed import embed
from vae_anomaly.steps.generate import generate
from vae_anomaly.steps.ingest import ingest
from vae_anomaly.steps.interpolate import interpolate
from vae_anomaly.steps.latent_pictures import (
    draw_generated,
    draw_reconstructions,
    draw_traversal,
    draw_way,
    image_shape,
)
from vae_anomaly.steps.register import register
from vae_anomaly.steps.train import latest_trained, read_histories, train
from vae_anomaly.steps.traverse import traversal, traverse
from vae_anomaly.tracking import open_tracking

pytestmark = pytest.mark.slow

#: The usual steps, as rows of a model trained shortly do not resemble the plant's.
SETTINGS = "\ntraining: {patience: 40}\ncalibration: {bootstrap: 100}\n"


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> PlantConfig:
    """The demo's plant with a registered champion."""
    made = prepare(tmp_path_factory.mktemp("uses") / "demo")
    made.plant.write_text(made.plant.read_text() + SETTINGS)
    config = made.config()
    ingest(config)
    folder = train(config).folder
    calibrate(config, folder)
    register(config, folder)
    return config


def within_contract(plant: PlantConfig, table: pa.Table) -> None:
    for sensor in plant.contract.sensors:
        values = table[sensor.name].drop_null().to_numpy()
        assert len(values)
        assert sensor.low is None or values.min() >= sensor.low
        assert sensor.high is None or values.max() <= sensor.high


def test_generated_rows_are_of_the_plant(plant: PlantConfig, tmp_path: Path) -> None:
    made = generate(plant, tmp_path / "rows.parquet", n=500)
    table = pq.read_table(made.written["rows"])
    names = (*plant.contract.sensor_names, *plant.contract.context_names)
    assert table.column_names == ["sample", *names]
    assert table.num_rows == 500
    within_contract(plant, table)
    check_picture(made.written["picture"])
    assert made.figures["generated from real"].value < 0.8
    again = generate(plant, tmp_path / "again.parquet", n=500)
    assert pq.read_table(again.written["rows"]).equals(table)


def test_given_context_holds_and_moves_the_sensors(plant: PlantConfig, tmp_path: Path) -> None:
    flows = []
    for speed in ("1800", "2600"):
        made = generate(plant, tmp_path / f"{speed}.csv", n=300, context={"speed": speed})
        table = pacsv.read_csv(made.written["rows"])
        assert set(table["speed"].to_pylist()) == {int(speed)}
        assert not made.figures
        assert "another context than speed" in made.notes[-1]
        flows.append(np.median(table["flow"].to_numpy()))
    assert flows[1] > 1.2 * flows[0]  # a pump delivers as it turns


def test_augmented_rows_say_what_they_are_near_and_pass_the_contract(
    plant: PlantConfig, tmp_path: Path
) -> None:
    made = augment(plant, tmp_path / "more.csv", n=400)
    table = pacsv.read_csv(made.written["rows"])
    assert table.column_names[:3] == ["sample", "asset", "near"]
    within_contract(plant, table)
    assert made.figures["generated from real"].value < 0.8
    lake, columns = Lake(plant.lake, plant.contract), ["asset", "time", "flow"]
    read = pa.Table.from_batches(list(rows(lake.open(READINGS), columns=columns)))
    flow = {(row["asset"], row["time"]): row["flow"] for row in read.to_pylist()}
    near = table["near"].cast(read["time"].type).to_pylist()
    keys = zip(table["asset"].to_pylist(), near, strict=True)
    pairs = np.array([[flow[k] for k in keys], table["flow"].to_pylist()], dtype=float).T
    known = ~np.isnan(pairs).any(axis=1)
    assert np.corrcoef(pairs[known].T)[0, 1] > 0.95


def test_way_between_readings_starts_and_ends_near_them(plant: PlantConfig, tmp_path: Path) -> None:
    made = interpolate(
        plant, tmp_path / "way.parquet", asset="pump-02", start="2026-01-06T10:00",
        end="2026-01-07T04:00+00:00", steps=5, spherical=True,
    )  # fmt: skip
    table = pq.read_table(made.written["rows"])
    assert table["step"].to_pylist() == [0, 1, 2, 3, 4]
    assert set(table["asset"].to_pylist()) == {"pump-02"}
    check_picture(made.written["picture"])
    assert "2026-01-06 10:00 to 2026-01-07 04:00" in made.summary


def test_traversal_moves_each_latent(plant: PlantConfig, tmp_path: Path) -> None:
    for number, where in enumerate(({}, {"asset": "pump-01", "at": "2026-01-06T10:00"})):
        made = traverse(plant, tmp_path / f"{number}.parquet", steps=5, **where)
        table = pq.read_table(made.written["rows"])
        k = max(table["latent"].to_pylist())
        assert table.num_rows == 5 * k
        assert table["latent"].to_pylist() == np.repeat(np.arange(k) + 1, 5).tolist()
        check_picture(made.written["picture"])
    assert "pump-01 at 2026-01-06 10:00" in made.summary


def test_every_judged_reading_is_embedded(plant: PlantConfig, tmp_path: Path) -> None:
    lake = Lake(plant.lake, plant.contract)
    n_rows = sum(batch.num_rows for batch in rows(lake.open(READINGS)))
    made = embed(plant, tmp_path / "all", color="label")
    table = pq.read_table(made.written["embedding"])
    assert table.num_rows == n_rows
    assert table.column_names[:4] == ["asset", "time", "label", "z1"]
    on_map = pq.read_table(made.written["map"])
    assert on_map.num_rows == 2000
    check_picture(made.written["picture"])
    own = embed(plant, tmp_path / "one", color="time", kind="tsne", asset="pump-03")
    alone = pq.read_table(own.written["embedding"])
    theirs = table.filter(pa.compute.equal(table["asset"], "pump-03"))
    assert_allclose(alone["z1"].to_numpy(), theirs["z1"].to_numpy(), atol=1e-6)


def test_run_in_mlflow_has_the_latent_space(plant: PlantConfig) -> None:
    tracking = open_tracking(plant)
    champion = tracking.champion()
    assert champion is not None
    listed = {file.path for file in tracking.client.list_artifacts(champion.run_id, "latent")}
    assert listed == {
        f"latent/{name}"
        for name in ("generated.parquet", "generated.png", "map.parquet", "map.png",
                     "reconstruction.png", "told_apart.json", "traversal.png")
    }  # fmt: skip
    figures = tracking.client.get_run(champion.run_id).data.metrics
    assert 0.4 < figures["generated_from_real_auroc"] < 0.8
    for picture in (latest_trained(plant) / "latent").glob("*.png"):
        check_picture(picture)


def test_one_setting_augments_the_training_rows(plant: PlantConfig, tmp_path: Path) -> None:
    changed = {"augment": 0.5, "max_steps": 200, "min_steps": 200}
    training = plant.training.model_copy(update=changed)
    other = plant.model_copy(update={"training": training})
    units: set[str] = set()
    report = train(other, on_check=lambda unit, check: units.add(unit))
    assert report.folder != latest_trained(plant)  # another fingerprint
    assert units == {"before augmentation", "*"}
    (note,) = [note for note in report.notes if "augmented" in note]
    n_train = sum(i.n_rows for i in report.trained.intervals if i.part == "train")
    assert re.search(rf"trained again on [\d,]+ augmented rows beside {n_train:,} real ones", note)
    assert "AUROC" in note
    assert not list(report.folder.glob("checkpoint*"))
    calibrate(other, report.folder)
    assert register(other, report.folder).version.version == "2"


def test_each_stage_has_curves_of_its_own(
    plant: PlantConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the first stage ends before its last checks are sent, and the second sends."""
    changed = {"augment": 0.2, "max_steps": 120, "min_steps": 120, "checks": 4}
    training = plant.training.model_copy(update=changed)
    other = plant.model_copy(update={"training": training, "seed": 4})

    def on_check(unit: str, check: object) -> None:
        monkeypatch.setattr(train_step, "LOG_EVERY_S", -1.0 if unit == "*" else math.inf)

    report = train(other, on_check=on_check)
    client = open_tracking(other).client
    run_id, histories = report.trained.run_id, read_histories(report.folder)
    assert set(histories) == {"before augmentation", "*"}
    for unit, prefix in (("before augmentation", "before augmentation/"), ("*", "")):
        logged = client.get_metric_history(run_id, f"{prefix}held_out_bound")
        expected = [(check.step, check.held_out_bound) for check in histories[unit].checks]
        assert [(point.step, point.value) for point in logged] == expected
    for name in client.get_run(run_id).data.metrics:
        steps = [point.step for point in client.get_metric_history(run_id, name)]
        assert len(steps) == len(set(steps)), name


class CutShortError(Exception):
    """A training that was cut short."""


def test_training_cut_short_in_either_stage_ends_with_the_same_package(plant: PlantConfig) -> None:
    changed = {"augment": 0.2, "max_steps": 120, "min_steps": 120, "checks": 4}
    training = plant.training.model_copy(update=changed)
    other = plant.model_copy(update={"training": training, "seed": 3})
    digests = []
    for cut in ("", "before augmentation", "*"):
        seen: list[str] = []

        def on_check(unit: str, check: object, cut: str = cut, seen: list[str] = seen) -> None:
            seen.append(unit)
            if seen.count(cut) == 2:
                raise CutShortError

        if cut:
            with pytest.raises(CutShortError):
                train(other, on_check=on_check)
        report = train(other)
        assert report.resumed == bool(cut)
        digests.append(ModelPackage.read(report.folder / "draft").digest)
        shutil.rmtree(report.folder)
    assert len(set(digests)) == 1


def test_a_version_and_a_folder_stand_for_the_same_model(
    plant: PlantConfig, tmp_path: Path
) -> None:
    folder = latest_trained(plant)
    digests = {chosen(plant, m).package.digest for m in ("champion", "1", str(folder))}
    assert len(digests) == 1
    with pytest.raises(RegistryError, match="there are 1, champion"):
        chosen(plant, "7")


def test_model_of_another_lake_makes_rows_but_has_none_to_be_near_to(
    plant: PlantConfig, tmp_path: Path
) -> None:
    folder = shutil.copytree(latest_trained(plant) / "package", tmp_path / "package")
    other = plant.model_copy(update={"lake": str(tmp_path / "lake")})
    with pytest.raises(InputError, match="no rows to be near to"):
        augment(other, tmp_path / "a.csv", model=str(folder))
    with pytest.raises(InputError, match="give --context"):
        generate(other, tmp_path / "a.csv", model=str(folder))
    context = {"speed": "2000", "bypass": "0", "ambient": "10"}
    made = generate(other, tmp_path / "a.csv", n=50, model=str(folder), context=context)
    assert pacsv.read_csv(made.written["rows"]).num_rows == 50


def test_what_is_asked_wrongly_is_answered_with_what_is_right(
    plant: PlantConfig, tmp_path: Path
) -> None:
    out = tmp_path / "a.csv"
    for asked, said in (
        ({"context": {"sped": "3"}}, "did you mean 'speed'"),
        ({"context": {"speed": "fast"}}, "is no number"),
        ({"label": 2}, "learnt no kinds of anomalies"),
        ({"n": 0}, "n=0"),
    ):
        with pytest.raises(InputError, match=said):
            generate(plant, out, **asked)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"ends in '\.xlsx'"):
        generate(plant, tmp_path / "a.xlsx")
    with pytest.raises(InputError, match="pump-01, pump-02"):
        interpolate(plant, out, asset="pump-9", start="2026-01-06", end="2026-01-07")
    with pytest.raises(InputError, match="'tomorrow' is not a time"):
        interpolate(plant, out, asset="pump-01", start="2026-01-06", end="tomorrow")
    with pytest.raises(InputError, match="give --asset too"):
        traverse(plant, out, at="2026-01-06")
    assert not out.exists()


def test_command_line_says_what_it_wrote(plant: PlantConfig, tmp_path: Path) -> None:
    file = plant.work_path.parents[1] / "plant.yml"
    done = command("generate", file, "--n", "60", "--out", tmp_path / "rows.csv", "--context",
                   "speed=2000", "--context", "bypass=0")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "rows.csv" in done.stdout
    assert "rows.png" in done.stdout
    assert pacsv.read_csv(tmp_path / "rows.csv").num_rows == 60
    drawn = command("traverse", file, "--image", "2x4", "--out", tmp_path / "pixels.csv")
    assert drawn.returncode == 0, drawn.stderr
    check_picture(tmp_path / "pixels.png")
    other = command("generate", file, "--image", "28x28")
    assert other.returncode == 1
    assert "a row has 8 sensors" in other.stderr
    wrong = command("generate", file, "--context", "speed")
    assert wrong.returncode == 1
    assert "NAME=VALUE" in wrong.stderr
    lacking = command("interpolate", file, "--asset", "pump-01")
    assert lacking.returncode == 1
    assert "--from, --to" in lacking.stderr


def test_one_model_an_asset_must_be_named(plant: PlantConfig, tmp_path: Path) -> None:
    path = plant.work_path.parents[1] / "apart.yml"
    text = (path.parent / "plant.yml").read_text()
    path.write_text(text.replace("\ntraining:", "\nmodel: {per: asset}\ntraining:"))
    folder = train(read_plant(path)).folder
    with pytest.raises(InputError, match=r"pump-01, pump-02, .*give --asset"):
        generate(plant, tmp_path / "a.csv", model=str(folder))
    made = generate(plant, tmp_path / "a.csv", model=str(folder), asset="pump-02", n=50)
    assert pacsv.read_csv(made.written["rows"]).num_rows == 50
    near = augment(plant, tmp_path / "b.csv", model=str(folder), asset="pump-02", n=50)
    assert set(pacsv.read_csv(near.written["rows"])["asset"].to_pylist()) == {"pump-02"}


def test_rows_that_are_images_are_drawn_as_images(tmp_path: Path) -> None:
    digits = load_digits().data  # 8 x 8 pixels from 0 to 16
    train, stop = (
        Series(
            torch.from_numpy(part),
            torch.zeros(len(part), dtype=torch.int64),
            torch.zeros(len(part), dtype=torch.int64),
        )
        for part in (digits[:1200], digits[1200:1500])
    )
    settings = {"backbone": "image", "image": [1, 8, 8], "scaling": [0, 16], "hidden": [16, 32]}
    variant = variant_of("gaussian", settings)
    training = Training(min_steps=600, max_steps=600)
    scorer = fit_scorer(train, stop, n_context=0, variant=variant, training=training, seed=0).scorer
    rows = Matrix(digits[1500:], np.zeros(297, np.int64), np.zeros(297, np.int64))
    names = [f"p{i}" for i in range(64)]
    made = latent.generate(scorer, 64, seed=0, mean=True)
    check = [draw_generated(tmp_path / "a.png", scorer, made, digits, names, subject="digits")]
    way = latent.interpolate(scorer, rows, 0, 1, 9, spherical=True)
    ends = raw_windows(scorer, rows, np.array([0, 1]))
    check.append(draw_way(tmp_path / "b.png", scorer, way, ends, names, ends=("8", "9"),
                          kind="spherical", subject="digits"))  # fmt: skip
    found = traversal(scorer, rows)
    check.append(
        draw_traversal(tmp_path / "c.png", scorer, found.moved, found.values, found.spread, names,
                       subject="digits")
    )  # fmt: skip
    time = np.datetime64("2026-01-01", "us") + np.arange(297)
    check.append(
        draw_reconstructions(tmp_path / "d.png", scorer, rows, time, names, around=3, subject="x")
    )
    for path in check:
        assert path.stat().st_size > 10_000
    assert image_shape(scorer) == (1, 8, 8)
