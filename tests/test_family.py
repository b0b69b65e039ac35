"""Each member of the family, and each baseline, through the flows by one word in plant.yml."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from numpy.testing import assert_array_equal

from vae_anomaly import ModelPackage
from vae_anomaly.config import PlantConfig, read_plant
from vae_anomaly.data.lake import READINGS, VERDICTS, Lake, rows
from vae_anomaly.demo import prepare
from vae_anomaly.errors import InputError
from vae_anomaly.models.variants import VARIANTS
from vae_anomaly.scoring.baselines import BASELINES, Simple
from vae_anomaly.steps.embed import embed
from vae_anomaly.steps.generate import generate
from vae_anomaly.steps.ingest import ingest
from vae_anomaly.steps.traverse import traverse
from vae_anomaly.tracking import open_tracking

#: A tenth of the usual steps: the way is tested here, not how well each detects.
SHORT = "\ntraining: {min_steps: 200, max_steps: 200}\ncalibration: {bootstrap: 100}\n"


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's folder after its first ingest; copy it before changing it."""
    folder = tmp_path_factory.mktemp("family") / "demo"
    ingest(prepare(folder).config())
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "name"),
    [*(("variant", name) for name in VARIANTS), *(("baseline", name) for name in BASELINES)],
)
def test_one_word_takes_a_member_through_the_flows(
    kind: str, name: str, server: None, ingested: Path, tmp_path: Path
) -> None:
    from pipelines.parameters import PlantParameters
    from pipelines.run import run

    shutil.copytree(ingested, tmp_path / "demo")
    file = tmp_path / "demo/plant.yml"
    file.write_text(file.read_text() + f"model: {{{kind}: {name}}}" + SHORT)
    done = run(PlantParameters(plant=file))

    plant = read_plant(file)
    lake = Lake(plant.lake, plant.contract)
    readings = pa.Table.from_batches(list(rows(lake.open(READINGS))))
    verdicts = pa.Table.from_batches(list(rows(lake.open(VERDICTS))))
    assert done.registered.alias == "champion"
    assert done.scored.n_rows == verdicts.num_rows == readings.num_rows
    assert set(verdicts["status"].to_pylist()) == {"normal", "anomaly"}

    assert done.calibrated is not None
    package = ModelPackage.read(done.calibrated.package)  # verified, its golden rows scored again
    assert package.units["*"].scorer.variant == (
        VARIANTS[name]() if kind == "variant" else Simple(name)
    )
    assert_array_equal(served_scores(plant, readings), in_order(verdicts)["score"].to_numpy())

    evaluation = done.registered.evaluation
    assert evaluation is not None
    found = {f.method: f.auroc for f in (evaluation.model, *evaluation.baselines)}
    assert set(found) == {name, *BASELINES, "random"}
    ours, chance = found[name], found["random"]
    assert ours is not None
    assert chance is not None
    assert ours.low > chance.high + 0.1, (ours, chance)
    if kind == "baseline":
        _a_baseline_says_what_it_cannot_do(plant, name, verdicts)


def _a_baseline_says_what_it_cannot_do(plant: PlantConfig, name: str, verdicts: pa.Table) -> None:
    flagged = verdicts.filter(pc.equal(verdicts["status"], "anomaly"))
    expected = np.asarray(flagged["top_expected"].to_pylist(), float)
    assert np.isfinite(expected).all()
    assert set().union(*flagged["top_sensors"].to_pylist()) <= set(plant.contract.sensor_names)
    out = plant.work_path / "new.parquet"
    for use in (
        lambda: generate(plant, out, n=5),
        lambda: embed(plant, out),
        lambda: traverse(plant, out),
    ):
        with pytest.raises(InputError, match=f"baseline '{name}' has no latents.*train a variant"):
            use()
    assert not out.exists()


def served_scores(plant: PlantConfig, readings: pa.Table) -> np.ndarray:
    """Scores of the registered champion, as MLflow serves it, by asset and time."""
    tracking = open_tracking(plant)
    champion = tracking.champion()
    assert champion is not None
    source = tracking.client.get_model_version_download_uri(champion.name, champion.version)
    contract = plant.contract
    columns = ["asset", "time", *contract.sensor_names, *contract.context_names]
    frame = in_order(readings).select(columns).to_pandas()
    frame["time"] = frame["time"].dt.tz_localize(None).astype("datetime64[ns]")
    scores: np.ndarray = mlflow.pyfunc.load_model(source).predict(frame)["score"].to_numpy()
    return scores.astype(np.float32)


def in_order(table: pa.Table) -> pa.Table:
    return table.sort_by([("asset", "ascending"), ("time", "ascending")])
