"""A new member of the family takes one file and one line, and then everything knows it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from linear_plant import QUICK, faulty_rows, normal_rows, series
from sealed import CONTRACT, rows
from sklearn.metrics import roc_auc_score

from vae_anomaly import ModelPackage, VAEDetector
from vae_anomaly.data.windows import Matrix
from vae_anomaly.decisions.thresholds import Target, calibrate
from vae_anomaly.errors import ConfigError
from vae_anomaly.models import variants
from vae_anomaly.models.variants import VARIANTS, variant_of
from vae_anomaly.package import Calibration, Golden, Provenance, Unit
from vae_anomaly.scoring.fitting import fit_scorer
from vae_anomaly.streaming import score_rows

#: The file.
TOY = '''
from dataclasses import dataclass

from vae_anomaly.models.encoders import GaussianEncoder
from vae_anomaly.models.likelihoods import LocationScale
from vae_anomaly.models.networks import Shape
from vae_anomaly.models.priors import PRIORS
from vae_anomaly.models.settings import Architecture, Objective, setting
from vae_anomaly.models.vae import VAE


@dataclass(frozen=True, kw_only=True)
class Toy(Architecture, Objective):
    """VAE whose noise is a share of a sensor's spread that its user knows."""

    share: float = setting(0.3, "above 0", lambda share: share > 0)

    def build(self, shape: Shape) -> VAE:
        sizes = self.sizes(shape)
        prior = PRIORS[self.prior](sizes)
        return VAE(GaussianEncoder(sizes), LocationScale(sizes, noise=self.share), prior)
'''


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    path = tmp_path / "toy.py"
    path.write_text(TOY)
    spec = importlib.util.spec_from_file_location("toy", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(variants, "VARIANTS", {**VARIANTS, "toy": module.Toy})  # the line
    return module


def test_toy_finds_faults_through_the_scorer_and_the_estimator(toy: ModuleType) -> None:
    faulty, train = faulty_rows(900, 7), normal_rows(1500, 0)
    scorer = fit_scorer(
        series(train), series(normal_rows(300, 1)), n_context=0,
        variant=variant_of("toy", {"share": 0.2}), training=QUICK, seed=0,
    ).scorer  # fmt: skip
    assert scorer.variant == toy.Toy(share=0.2)
    assert roc_auc_score(faulty.is_faulty, scorer(*series(faulty.rows)[:2])[0]) > 0.8
    detector = VAEDetector("toy", training=QUICK, random_state=0).fit(train)
    assert roc_auc_score(faulty.is_faulty, -detector.score_samples(faulty.rows)) > 0.8


def test_toy_is_sealed_read_and_scores_the_same(toy: ModuleType, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = 0.1 * rng.normal(size=(300, 3)) + rng.normal(size=(300, 1)) * [1.0, -1.0, 1.0]
    run, label = np.arange(300), np.zeros(300, np.int64)
    some = series(values)
    scorer = fit_scorer(
        some, some, n_context=1, variant=toy.Toy(latent_dim=1), training=QUICK, seed=0
    ).scorer
    matrix = Matrix(values, run, label)
    score = score_rows(scorer, matrix).score
    found = calibrate(
        score.astype(np.float64), label, rule="conformal", target=Target(false_alarm_rate=0.05)
    )
    calibration = Calibration(found.threshold, found.operating_point, np.sort(score), found.note)
    unit = Unit(scorer, Golden.of(scorer, matrix), calibration)
    provenance = Provenance("pumps", "f" * 64, readings_version=3, seed=0)
    written = ModelPackage(CONTRACT, {"*": unit}, provenance).write(tmp_path / "package")
    read = ModelPackage.read(tmp_path / "package")
    assert read.units["*"].scorer.variant == toy.Toy(latent_dim=1)
    for n in (1, 7, 1000):
        assert read.score(rows(n)).equals(written.score(rows(n)))


def test_toys_settings_are_checked_and_named(toy: ModuleType) -> None:
    assert variant_of("toy", {}) == toy.Toy()
    with pytest.raises(ConfigError, match="unknown setting 'sahre'; did you mean 'share'"):
        variant_of("toy", {"sahre": 0.5})
    with pytest.raises(ConfigError, match=r"share=0\.0 is not allowed; give above 0"):
        variant_of("toy", {"share": 0})
    assert torch.equal(toy.Toy(share=0.5).build(toy.Shape(2)).decoder.sigma, torch.full((2,), 0.5))
