"""The linear member is probabilistic PCA, and is pooled with the networks as one of them."""

from __future__ import annotations

import math
from pathlib import Path

import naive
import numpy as np
import pytest
import torch
from linear_plant import QUICK, normal_rows, series, with_gaps
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal
from test_ensemble import built
from test_vae import batch_of, random_rows

from vae_anomaly.config import Contract
from vae_anomaly.data.windows import Matrix
from vae_anomaly.models.ensemble import EnsembleVAE
from vae_anomaly.models.standardize import Batch
from vae_anomaly.models.variants import Ensemble
from vae_anomaly.package import Golden, ModelPackage, Provenance, Unit
from vae_anomaly.scoring.fitting import fit_scorer
from vae_anomaly.scoring.scores import bounds, pooled, residual

widths = pytest.mark.parametrize("d", [1, 2, 5, 12])


def plant(n: int, d: int, *, n_context: int = 0, gaps: float = 0.0, seed: int = 0) -> Batch:
    """Rows that vary together and follow their context; nothing of the last is observed."""
    rng = np.random.default_rng(9)
    mix = torch.from_numpy(rng.normal(size=(d, d)) / d**0.5).float()
    x = random_rows(n, d, seed=seed) @ mix
    rows = batch_of(x, n_context)
    x = x + rows.context.sum(dim=-1, keepdim=True)
    x[torch.rand(n, d, generator=torch.Generator().manual_seed(2)) < gaps] = torch.nan
    x[-1] = torch.nan
    return Batch(x.nan_to_num(0.0), ~x.isnan(), rows.context, rows.label)


def networks(d: int, *, n_context: int = 0, n_members: int = 1) -> EnsembleVAE:
    return built(Ensemble(hidden=(4,), latent_dim=1, n_members=n_members), d, n_context)


@torch.no_grad()
def linear_part(
    module: EnsembleVAE, rows: Batch, tensors: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Score and contributions beyond those of the networks, in the linear member's nats."""
    pairs = zip(
        pooled.pooled_density(module, rows, tensors),
        bounds.density(module, rows, tensors),
        strict=True,
    )
    score, contributions = (module.n_members * (mine - other).double() for mine, other in pairs)
    return score, contributions


def probabilistic_components(r: np.ndarray) -> tuple[np.ndarray, float]:
    """W (d, k) and the noise's variance of Tipping & Bishop's equations 7 and 8."""
    d = r.shape[1]
    k = min(round(math.sqrt(d)) + 1, d - 1)
    _, singular, axes = np.linalg.svd(r)
    values = np.zeros(d)
    values[: len(singular)] = singular**2 / len(r)
    noise = values[k:].mean()
    return axes[:k].T * np.sqrt(values[:k] - noise), noise


# ----------------------------------------------------------------------------------- against naive


@widths
def test_linear_member_is_the_gaussian_density_of_its_latents_up_to_a_constant(d: int) -> None:
    module, rows = networks(d), plant(300, d)
    tensors = pooled.fit(module, rows, rows)
    W, noise = probabilistic_components(rows.x.double().numpy())
    new = plant(40, d, seed=3)
    score, _ = linear_part(module, new, tensors)
    density = multivariate_normal(np.zeros(d), W @ W.T + noise * np.eye(d)).logpdf
    expected = density(np.zeros(d)) - np.atleast_1d(density(new.x.double().numpy()))
    assert_allclose(score, expected, rtol=1e-4, atol=1e-4)


@widths
def test_linear_member_is_half_of_t_squared_and_of_q_over_the_noise(d: int) -> None:
    module, rows = networks(d), plant(300, d)
    tensors = pooled.fit(module, rows, rows)
    x, new = rows.x.double().numpy(), plant(40, d, seed=3)
    score, _ = linear_part(module, new, tensors)
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    n_rest = d - min(round(math.sqrt(d)) + 1, d - 1)
    for i, row in enumerate(new.x.double().numpy()):
        along = [sum(row[j] * vectors[j, a] for j in range(d)) for a in range(d)]
        t_squared = sum(along[a] ** 2 / values[a] for a in range(n_rest, d))
        q = sum(along[a] ** 2 for a in range(n_rest))
        expected = (t_squared + q / values[:n_rest].mean()) / 2
        assert_allclose(score[i], expected, rtol=1e-4, atol=1e-4)


def test_with_gaps_it_is_the_density_of_the_observed_entries() -> None:
    d, module = 5, networks(5)
    tensors = pooled.fit(module, plant(300, d), plant(300, d))
    W, noise = probabilistic_components(plant(300, d).x.double().numpy())
    new = plant(60, d, gaps=0.4, seed=3)
    score, contributions = linear_part(module, new, tensors)
    zero, sigma = np.zeros(d), np.full(d, math.sqrt(noise))
    for i, seen in enumerate(new.observed.numpy()):
        row = np.where(seen, new.x[i].double().numpy(), np.nan)
        origin = np.where(seen, 0.0, np.nan)
        expected = naive.factor_analysis(origin, W, zero, sigma)
        expected -= naive.factor_analysis(row, W, zero, sigma)
        assert_allclose(score[i], expected, rtol=1e-3, atol=1e-4)
    assert (contributions[~new.observed] == 0).all()


def test_what_context_explains_is_taken_off() -> None:
    module, rows = networks(5, n_context=2), plant(2000, 5, n_context=2)
    tensors = pooled.fit(module, rows, rows)
    assert_allclose(tensors["by_context"], 1.0, atol=0.1)
    moved = rows._replace(x=rows.x + 3.0, context=rows.context + 1.5)  # by 1.5 of each of the two
    before, after = (linear_part(module, some, tensors)[0] for some in (rows, moved))
    assert_allclose(after[:-1].mean(), before[:-1].mean(), rtol=0.05)


# ---------------------------------------------------------------------------------------- as a pool


@pytest.mark.parametrize("n_members", [1, 2, 3])
def test_linear_member_counts_as_one_beside_the_networks(n_members: int) -> None:
    rows = plant(300, 5, n_context=1, gaps=0.2)
    module = networks(5, n_context=1, n_members=n_members)
    tensors = pooled.fit(module, rows, rows)
    with torch.no_grad():
        score, contributions = pooled.pooled_density(module, rows, tensors)
        density, _ = bounds.density(module, rows, tensors)
    r = rows.x.double() - rows.context.double() @ tensors["by_context"].T
    linear = residual.distance(r, rows, tensors).sum(dim=-1) / 2
    assert_allclose(score, density + linear / n_members, rtol=1e-4, atol=1e-4)
    assert_allclose(contributions.sum(dim=-1), score, rtol=1e-4, atol=1e-4)
    assert score[-1] == 0  # nothing of it was observed


def test_columns_that_repeat_others_or_never_vary_leave_the_score_finite() -> None:
    x = random_rows(300, 1)
    rows = batch_of(torch.cat([x, x, 2 * x, torch.zeros(300, 1)], dim=-1))
    P = pooled.fit(networks(4), rows, rows)["residual_precision"]
    mean_variance = rows.x.double().square().mean()
    assert_allclose(torch.linalg.eigvalsh(P)[-1], 1 / (1e-3 * mean_variance), rtol=1e-3)
    assert_allclose(pooled.linear_precision(torch.zeros(9, 3).double()), np.eye(3))


@pytest.mark.parametrize(("n_context", "tolerance"), [(0, 1e-4), (1, 0.1)])
def test_very_many_columns_are_judged_along_axes(
    n_context: int, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many axes as latents are the same density, but that context is taken off unshrunk."""
    module, rows = networks(5, n_context=n_context), plant(400, 5, n_context=n_context)
    usual = linear_part(module, rows, pooled.fit(module, rows, rows))[0]
    monkeypatch.setattr(residual, "WIDEST", 4)
    monkeypatch.setattr(residual, "AXES", 3)
    tensors = pooled.fit(module, rows, rows)
    assert tensors["residual_axes"].shape == (3, 5)
    along = linear_part(module, rows, tensors)[0]
    assert_allclose(along, usual, rtol=tolerance, atol=tolerance)
    gaps = plant(50, 5, n_context=n_context, gaps=0.4)
    with torch.no_grad():
        score, contributions = pooled.pooled_density(module, gaps, tensors)
    assert_allclose(contributions.sum(dim=-1), score, rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------------------ as it is used


@pytest.mark.parametrize("name", ["pooled_density", "density"])
@pytest.mark.parametrize("d", [1, 6])
def test_packages_of_an_ensemble_keep_their_score_and_its_bits(
    name: str, d: int, tmp_path: Path
) -> None:
    """Those sealed while `density` was the default name it, and are judged by it still."""
    rows, contract = normal_rows(300, 0)[:, :d], Contract(time="when", sensors=tuple("abcdef"[:d]))
    scorer = fit_scorer(
        series(rows[:200]),
        series(rows[200:]),
        n_context=0,
        variant=Ensemble(),
        training=QUICK.model_copy(update={"min_steps": 20, "max_steps": 20}),
        anomaly_score="auto" if name == "pooled_density" else name,
        smoothing="auto",
        seed=0,
    ).scorer
    assert scorer.anomaly_score == name
    some = series(with_gaps(normal_rows(50, 1)[:, :d]))
    golden = Golden.of(scorer, Matrix(*(part.numpy() for part in some)))
    provenance = Provenance("pumps", "f" * 64, readings_version=3, seed=0)
    ModelPackage(contract, {"*": Unit(scorer, golden)}, provenance).write(tmp_path / "package")
    twin = ModelPackage.read(tmp_path / "package").units["*"].scorer
    assert twin.anomaly_score == name
    for mine, other in zip(scorer(*some[:2]), twin(*some[:2]), strict=True):
        assert torch.equal(mine, other)
